// Parallel regions. OpenMP runs them, or std::thread where LSTMCORE_THREADS_STD is defined (ThreadSanitizer does not
// see into libgomp). Everything that is split among threads is split so that no result depends on their number.
#pragma once

#include "base/denormals.hpp"
#include "base/fork.hpp"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <thread>

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

/// Meets `size` threads again and again; they spin, since they meet thousands of times a millisecond apart at most.
class SpinBarrier {
 public:
  void wait(int size) noexcept {
    if (size <= 1) return;
    const unsigned generation = generation_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == size) {
      arrived_.store(0, std::memory_order_relaxed);
      generation_.store(generation + 1, std::memory_order_release);
      return;
    }
    for (int spins = 0; generation_.load(std::memory_order_acquire) == generation; ++spins) {
      if (spins < 4096) {
        pause();
      } else {
        std::this_thread::yield();  // more threads than free cores: let the late one run
      }
    }
  }

 private:
  static void pause() noexcept {
#if defined(__SSE2__)
    _mm_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
  }

  alignas(64) std::atomic<int> arrived_{0};
  alignas(64) std::atomic<unsigned> generation_{0};
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
