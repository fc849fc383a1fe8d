// Where tests cut the power: the engine says which step it has reached. Empty outside tests.
#ifndef HOLDFAST_SERVER_REPOSITORY_CRASH_POINT_H_
#define HOLDFAST_SERVER_REPOSITORY_CRASH_POINT_H_

#include <functional>
#include <string_view>

namespace holdfast {

using CrashPoint = std::function<void(std::string_view step)>;

inline void Reached(const CrashPoint& crash_point, std::string_view step) {
  if (crash_point) crash_point(step);
}

}  // namespace holdfast

#endif  // HOLDFAST_SERVER_REPOSITORY_CRASH_POINT_H_
