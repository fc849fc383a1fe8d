#ifndef HOLDFAST_CORE_BASE_VERSION_H_
#define HOLDFAST_CORE_BASE_VERSION_H_

namespace holdfast {

inline constexpr char kVersion[] = "0.1.0";

}  // namespace holdfast

#endif  // HOLDFAST_CORE_BASE_VERSION_H_
