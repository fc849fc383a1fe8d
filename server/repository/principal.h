// Who calls the engine.
#ifndef HOLDFAST_SERVER_REPOSITORY_PRINCIPAL_H_
#define HOLDFAST_SERVER_REPOSITORY_PRINCIPAL_H_

#include <string>

namespace holdfast {

// On the Unix socket everybody who may connect is one principal; certificates will name agents.
struct Principal {
  std::string name;
};

}  // namespace holdfast

#endif  // HOLDFAST_SERVER_REPOSITORY_PRINCIPAL_H_
