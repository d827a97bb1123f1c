// What must keep working in a process that was forked while other threads were at work.
#pragma once

#include "base/namespace.hpp"

#include <pthread.h>

#include <atomic>
#include <thread>

LSTMCORE_BEGIN_NAMESPACE

namespace fork_detail {
inline std::atomic<unsigned>& generation() noexcept {
  static std::atomic<unsigned> count{0};
  return count;
}
}  // namespace fork_detail

/// How many forks lie between the process that first asked and this one.
inline unsigned fork_generation() noexcept {
  static const int registered =
      pthread_atfork(nullptr, nullptr, [] { fork_detail::generation().fetch_add(1, std::memory_order_relaxed); });
  static_cast<void>(registered);
  return fork_detail::generation().load(std::memory_order_relaxed);
}

/// A lock that a forked child does not find held by a thread that exists in its parent only.
class ForkSafeLock {
 public:
  ForkSafeLock() noexcept : made_in_(fork_generation()) {}

  /// True when the lock was taken from a thread that fork() left behind: what it guards may be half-written and must be
  /// made anew, without reading or destroying it.
  bool lock() noexcept {
    const unsigned mine = fork_generation() - made_in_ + 1;
    unsigned holder = 0;
    while (!holder_.compare_exchange_weak(holder, mine, std::memory_order_acquire, std::memory_order_relaxed)) {
      if (holder != 0 && holder != mine) {
        if (holder_.compare_exchange_strong(holder, mine, std::memory_order_acquire, std::memory_order_relaxed)) {
          return true;
        }
      } else if (holder == mine) {
        std::this_thread::yield();
      }
      holder = 0;
    }
    return false;
  }
  void unlock() noexcept { holder_.store(0, std::memory_order_release); }

 private:
  unsigned made_in_;
  std::atomic<unsigned> holder_{0};  // 0: free, else 1 + forks since this lock was made
};

LSTMCORE_END_NAMESPACE
