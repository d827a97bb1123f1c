// Parallel regions. OpenMP runs them, or std::thread where LSTMCORE_THREADS_STD is defined (ThreadSanitizer does not
// see into libgomp). Everything that is split among threads is split so that no result depends on their number.
#pragma once

#include "base/denormals.hpp"
#include "base/fork.hpp"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <thread>

#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#if defined(_OPENMP) && !defined(LSTMCORE_THREADS_STD)
#define LSTMCORE_OPENMP 1
#include <omp.h>
#else
#define LSTMCORE_OPENMP 0
#include <vector>
#endif

LSTMCORE_BEGIN_NAMESPACE

/// One member of a team of threads.
struct Member {
  int id = 0;
  int size = 1;

  /// This member's share of `count` items in whole units, as [begin, end).
  struct Range {
    std::int64_t begin;
    std::int64_t end;
  };
  Range share(std::int64_t count, std::int64_t unit = 1) const noexcept {
    const std::int64_t units = (count + unit - 1) / unit;
    return {std::min(count, units * id / size * unit), std::min(count, units * (id + 1) / size * unit)};
  }
};

/// Meets `size` threads again and again. They spin, since they mostly meet a microsecond apart; a thread that waits for
/// long sleeps, so that one that shares its core may come, and wakes where a core is free.
class SpinBarrier {
 public:
  void wait(int size) noexcept {
    if (size <= 1) return;
    const unsigned generation = generation_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == size) {
      arrived_.store(0, std::memory_order_relaxed);
      generation_.store(generation + 1, std::memory_order_seq_cst);
      if (asleep_.load(std::memory_order_seq_cst) > 0) wake();
      return;
    }
    for (int spins = 0; spins < kSpins; ++spins) {
      if (generation_.load(std::memory_order_acquire) != generation) return;
      pause();
    }
    asleep_.fetch_add(1, std::memory_order_seq_cst);
    while (generation_.load(std::memory_order_seq_cst) == generation) sleep(generation);
    asleep_.fetch_sub(1, std::memory_order_relaxed);
  }

 private:
  static void pause() noexcept {
#if defined(__SSE2__)
    _mm_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
  }

  /// While the generation is still this one.
  void sleep(unsigned generation) noexcept {
#if defined(__linux__)
    syscall(SYS_futex, &generation_, FUTEX_WAIT_PRIVATE, generation, nullptr, nullptr, 0);
#else
    static_cast<void>(generation);
    std::this_thread::yield();
#endif
  }
  void wake() noexcept {
#if defined(__linux__)
    syscall(SYS_futex, &generation_, FUTEX_WAKE_PRIVATE, std::numeric_limits<int>::max(), nullptr, nullptr, 0);
#endif
  }

  static constexpr int kSpins = 1024;  ///< some 30 µs

  alignas(64) std::atomic<int> arrived_{0};
  alignas(64) std::atomic<unsigned> generation_{0};
  std::atomic<int> asleep_{0};
};

/// Threads to use when the caller does not say: OMP_NUM_THREADS (and what threadpoolctl set), else the number of cores.
inline int default_threads() noexcept {
#if LSTMCORE_OPENMP
  return std::max(1, omp_get_max_threads());
#else
  if (const char* text = std::getenv("OMP_NUM_THREADS")) {
    const int n = std::atoi(text);
    if (n > 0) return n;
  }
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
#endif
}

/// Upper bound for a request (0: default); 1 in a process forked from one that used the library.
inline int usable_threads(int requested) noexcept {
  // libgomp's pool does not survive fork(): a child that opens a parallel region waits for threads that do not exist.
  if (fork_generation() != 0) return 1;
  return requested > 0 ? requested : default_threads();
}

/// Runs body(Member) on up to n threads with denormals flushed; the calling thread is member 0. The body must not
/// throw.
template <class Body>
void parallel(int n, Body&& body) {
  if (n <= 1) {
    const FlushDenormals guard;
    body(Member{0, 1});
    return;
  }
#if LSTMCORE_OPENMP
#pragma omp parallel num_threads(n)
  {
    const FlushDenormals guard;
    body(Member{omp_get_thread_num(), omp_get_num_threads()});
  }
#else
  std::vector<std::thread> others;
  others.reserve(static_cast<std::size_t>(n) - 1);
  for (int id = 1; id < n; ++id) {
    others.emplace_back([&body, id, n] {
      const FlushDenormals guard;
      body(Member{id, n});
    });
  }
  {
    const FlushDenormals guard;
    body(Member{0, n});
  }
  for (std::thread& other : others) other.join();
#endif
}

LSTMCORE_END_NAMESPACE
