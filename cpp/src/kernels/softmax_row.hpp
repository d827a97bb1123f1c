// Rows of scores on their way to probabilities.
#pragma once

#include "math/functions.hpp"

#include <algorithm>

LSTMCORE_BEGIN_NAMESPACE

template <class T>
inline T largest(const T* scores, std::int64_t count) noexcept {
  constexpr std::int64_t W = kLanes<T>;
  T top = scores[0];
  std::int64_t k = 0;
  if (count >= W) {
    Pack<T> tops = load(scores);
    for (k = W; k + W <= count; k += W) {
      const Pack<T> next = load(scores + k);
      tops = next > tops ? next : tops;
    }
    for (int lane = 0; lane < W; ++lane) top = tops[lane] > top ? tops[lane] : top;
  }
  for (; k < count; ++k) top = scores[k] > top ? scores[k] : top;
  return top;
}

/// scores → exp((scores − top)·factor), and their sum.
template <class T>
inline double exponentials(T* scores, std::int64_t count, T top, T factor = T{1}) noexcept {
  constexpr std::int64_t W = kLanes<T>, kRun = 32 * W;  // so few terms that T loses nothing
  double total = 0.0;
  std::int64_t k = 0;
  while (k + W <= count) {
    const std::int64_t end = std::min(count - W, k + kRun - W);
    Pack<T> sums{};
    for (; k <= end; k += W) {
      const Pack<T> value = math::exp((load(scores + k) - top) * factor);
      store(scores + k, value);
      sums += value;
    }
    for (int lane = 0; lane < W; ++lane) total += static_cast<double>(sums[lane]);
  }
  for (; k < count; ++k) {
    scores[k] = math::exp((scores[k] - top) * factor);
    total += static_cast<double>(scores[k]);
  }
  return total;
}

template <class T>
inline void scale_row(T* values, std::int64_t count, T factor) noexcept {
  for (std::int64_t k = 0; k < count; ++k) values[k] *= factor;
}

LSTMCORE_END_NAMESPACE
