// For builds with ThreadSanitizer. Debian's Abseil is compiled without it, so that the sanitizer does not see that an
// absl::Mutex orders anything, and takes all that is done under one for a race. The linker leads our calls through here
// (--wrap, in .bazelrc), where the sanitizer is told. Locks inside of Abseil's own objects are not seen: suppressions.
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"

extern "C" {

void __tsan_acquire(void* address);
void __tsan_release(void* address);

// As the linker names them: __real_ is Abseil's, __wrap_ is ours.
#define HF_MUTEX(name) _ZN4absl7debian35Mutex##name
#define HF_REAL(symbol) HF_REAL_(symbol)
#define HF_REAL_(symbol) __real_##symbol
#define HF_WRAP(symbol) HF_WRAP_(symbol)
#define HF_WRAP_(symbol) __wrap_##symbol

#define HF_TAKES(symbol)                   \
  void HF_REAL(symbol)(absl::Mutex*);      \
  void HF_WRAP(symbol)(absl::Mutex * mu) { \
    HF_REAL(symbol)(mu);                   \
    __tsan_acquire(mu);                    \
  }
#define HF_GIVES(symbol)                   \
  void HF_REAL(symbol)(absl::Mutex*);      \
  void HF_WRAP(symbol)(absl::Mutex * mu) { \
    __tsan_release(mu);                    \
    HF_REAL(symbol)(mu);                   \
  }

HF_TAKES(HF_MUTEX(4LockEv))
HF_TAKES(HF_MUTEX(10ReaderLockEv))
HF_GIVES(HF_MUTEX(6UnlockEv))
HF_GIVES(HF_MUTEX(12ReaderUnlockEv))

// While they wait the mutex is given away.
void HF_REAL(HF_MUTEX(5AwaitERKNS0_9ConditionE))(absl::Mutex*, const absl::Condition*);
void HF_WRAP(HF_MUTEX(5AwaitERKNS0_9ConditionE))(absl::Mutex* mu, const absl::Condition* condition) {
  __tsan_release(mu);
  HF_REAL(HF_MUTEX(5AwaitERKNS0_9ConditionE))(mu, condition);
  __tsan_acquire(mu);
}

void __real__ZN4absl7debian37CondVar4WaitEPNS0_5MutexE(absl::CondVar*, absl::Mutex*);
void __wrap__ZN4absl7debian37CondVar4WaitEPNS0_5MutexE(absl::CondVar* changed, absl::Mutex* mu) {
  __tsan_release(mu);
  __real__ZN4absl7debian37CondVar4WaitEPNS0_5MutexE(changed, mu);
  __tsan_acquire(mu);
}

bool __real__ZN4absl7debian37CondVar15WaitWithTimeoutEPNS0_5MutexENS0_8DurationE(absl::CondVar*, absl::Mutex*,
                                                                                 absl::Duration);
bool __wrap__ZN4absl7debian37CondVar15WaitWithTimeoutEPNS0_5MutexENS0_8DurationE(absl::CondVar* changed,
                                                                                 absl::Mutex* mu,
                                                                                 absl::Duration timeout) {
  __tsan_release(mu);
  const bool timed_out =
      __real__ZN4absl7debian37CondVar15WaitWithTimeoutEPNS0_5MutexENS0_8DurationE(changed, mu, timeout);
  __tsan_acquire(mu);
  return timed_out;
}

void __real__ZN4absl7debian312Notification6NotifyEv(absl::Notification*);
void __wrap__ZN4absl7debian312Notification6NotifyEv(absl::Notification* event) {
  __tsan_release(event);
  __real__ZN4absl7debian312Notification6NotifyEv(event);
}

void __real__ZNK4absl7debian312Notification19WaitForNotificationEv(const absl::Notification*);
void __wrap__ZNK4absl7debian312Notification19WaitForNotificationEv(const absl::Notification* event) {
  __real__ZNK4absl7debian312Notification19WaitForNotificationEv(event);
  __tsan_acquire(const_cast<absl::Notification*>(event));
}

}  // extern "C"
