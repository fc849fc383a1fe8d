// Secrets as types: fixed size, wiped when they go, unprintable, compared in constant time. A secret is read only
// through ExposeBytes(), so that a grep for that name finds every place where key bytes leave the type.
#ifndef HOLDFAST_CORE_BASE_SECRET_H_
#define HOLDFAST_CORE_BASE_SECRET_H_

#include <array>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>

namespace holdfast {

// Overwrites memory in a way the optimiser must keep.
inline void WipeMemory(void* p, size_t n) {
  std::memset(p, 0, n);
  __asm__ __volatile__("" : : "r"(p) : "memory");
}

template <typename Tag, size_t N>
class FixedSecret {
 public:
  static constexpr size_t kSizeInBytes = N;
  FixedSecret() = default;
  explicit FixedSecret(const std::array<uint8_t, N>& bytes) : bytes_(bytes) {}
  // The first N bytes at p.
  explicit FixedSecret(const uint8_t* p) { std::memcpy(bytes_.data(), p, N); }
  FixedSecret(const FixedSecret&) = default;
  FixedSecret& operator=(const FixedSecret&) = default;
  ~FixedSecret() { WipeMemory(bytes_.data(), N); }

  const uint8_t* ExposeBytes() const { return bytes_.data(); }
  uint8_t* MutableBytes() { return bytes_.data(); }
  std::string_view ExposeView() const { return {reinterpret_cast<const char*>(bytes_.data()), N}; }
  // Constant time.
  bool operator==(const FixedSecret& o) const {
    uint8_t acc = 0;
    for (size_t i = 0; i < N; ++i) acc |= bytes_[i] ^ o.bytes_[i];
    return acc == 0;
  }
  bool IsZero() const { return *this == FixedSecret(); }

 private:
  std::array<uint8_t, N> bytes_{};
};

// A secret of any length (a password, the bytes of an opened key file). Move-only; wiped when it goes. Its buffer never
// grows in place, so that no unwiped copy is left behind by a reallocation.
class SecretString {
 public:
  SecretString() = default;
  explicit SecretString(std::string_view s) : data_(s) {}
  SecretString(SecretString&& o) noexcept { *this = std::move(o); }
  SecretString& operator=(SecretString&& o) noexcept {
    Wipe();
    data_ = o.data_;  // copy, then wipe: a small string moved from would keep its bytes
    o.Wipe();
    return *this;
  }
  SecretString(const SecretString&) = delete;
  SecretString& operator=(const SecretString&) = delete;
  ~SecretString() { Wipe(); }
  SecretString Clone() const { return SecretString(ExposeView()); }
  std::string_view ExposeView() const { return data_; }
  size_t size() const { return data_.size(); }
  bool empty() const { return data_.empty(); }

 private:
  void Wipe() {
    if (!data_.empty()) WipeMemory(data_.data(), data_.size());
    data_.clear();
  }
  std::string data_;
};

}  // namespace holdfast

#endif  // HOLDFAST_CORE_BASE_SECRET_H_
