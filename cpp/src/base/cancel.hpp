// Stopping long work from outside: one thread polls a callback now and then, all threads look at a flag.
#pragma once

#include "base/namespace.hpp"

#include <lstmcore/trainer.hpp>

#include <atomic>
#include <chrono>

LSTMCORE_BEGIN_NAMESPACE

class CancelToken {
 public:
  explicit CancelToken(const Cancel* callback) : callback_(callback != nullptr && *callback ? callback : nullptr) {}

  /// Cheap; any thread.
  bool stopped() const noexcept { return stop_.load(std::memory_order_relaxed); }

  /// Only from the thread that entered the library: the callback may need the GIL. Calls it every 20 ms at most.
  bool poll() {
    if (callback_ == nullptr || stopped()) return stopped();
    const auto now = std::chrono::steady_clock::now();
    if (now < next_) return false;
    next_ = now + std::chrono::milliseconds(20);
    if ((*callback_)()) stop_.store(true, std::memory_order_relaxed);
    return stopped();
  }

 private:
  const Cancel* callback_;
  std::atomic<bool> stop_{false};
  std::chrono::steady_clock::time_point next_{};
};

LSTMCORE_END_NAMESPACE
