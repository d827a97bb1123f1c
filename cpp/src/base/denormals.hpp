// Denormal numbers cost a hundred cycles each on many CPUs; decaying states and gradients are full of them.
#pragma once

#include "base/namespace.hpp"

#include <cstdint>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

LSTMCORE_BEGIN_NAMESPACE

/// Flushes denormals to zero on this thread while it lives, then restores the caller's mode. Setting it empties the
/// pipeline, twice 5 ns and what the next step could have begun meanwhile; hosts of audio code have set it themselves.
class FlushDenormals {
 public:
#if defined(__SSE2__)
  FlushDenormals() noexcept : saved_(_mm_getcsr()) {
    if (changes()) _mm_setcsr(saved_ | kFlush);
  }
  ~FlushDenormals() {
    if (changes()) _mm_setcsr(saved_);
  }

 private:
  static constexpr unsigned int kFlush = 0x8040U;  // FTZ | DAZ
  bool changes() const noexcept { return (saved_ & kFlush) != kFlush; }

  unsigned int saved_;
#elif defined(__aarch64__)
  FlushDenormals() noexcept {
    __asm__ __volatile__("mrs %0, fpcr" : "=r"(saved_));
    __asm__ __volatile__("msr fpcr, %0" : : "r"(saved_ | (std::uint64_t{1} << 24U)));
  }
  ~FlushDenormals() { __asm__ __volatile__("msr fpcr, %0" : : "r"(saved_)); }

 private:
  std::uint64_t saved_ = 0;
#else
  FlushDenormals() noexcept {}
  ~FlushDenormals() {}
#endif

 public:
  FlushDenormals(const FlushDenormals&) = delete;
  FlushDenormals& operator=(const FlushDenormals&) = delete;
};

/// Computes with denormals while it lives, as small devices do: within a region that flushes them.
class KeepDenormals {
 public:
#if defined(__SSE2__)
  KeepDenormals() noexcept : saved_(_mm_getcsr()) { _mm_setcsr(saved_ & ~0x8040U); }
  ~KeepDenormals() { _mm_setcsr(saved_); }

 private:
  unsigned int saved_;
#elif defined(__aarch64__)
  KeepDenormals() noexcept {
    __asm__ __volatile__("mrs %0, fpcr" : "=r"(saved_));
    __asm__ __volatile__("msr fpcr, %0" : : "r"(saved_ & ~(std::uint64_t{1} << 24U)));
  }
  ~KeepDenormals() { __asm__ __volatile__("msr fpcr, %0" : : "r"(saved_)); }

 private:
  std::uint64_t saved_ = 0;
#else
  KeepDenormals() noexcept {}
  ~KeepDenormals() {}
#endif

 public:
  KeepDenormals(const KeepDenormals&) = delete;
  KeepDenormals& operator=(const KeepDenormals&) = delete;
};

LSTMCORE_END_NAMESPACE
