// Softmax over time without knowing what is still to come.
#pragma once

#include "math/functions.hpp"
#include "sequence/dense.hpp"

#include <limits>

LSTMCORE_BEGIN_NAMESPACE

/// Σ_t e^{s_t}·x_t and Σ_t e^{s_t}, both relative to the largest score so far (Milakov & Gimelshein 2018). Whole
/// sequences and streams use the same steps, so that they agree to the last bit.
template <class T>
struct RunningSoftmax {
  T maximum = -std::numeric_limits<T>::infinity();
  T total = T{0};

  /// One more step: score s, x [width] into sum [width], which begins at 0.
  void add(T score, std::int64_t width, const T* x, T* sum) noexcept {
    if (score > maximum) {
      const T shrink = math::exp(maximum - score);
      for (std::int64_t i = 0; i < width; ++i) sum[i] *= shrink;
      total *= shrink;
      maximum = score;
    }
    const T weight = math::exp(score - maximum);
    total += weight;
    add_scaled(width, weight, x, sum);
  }

  /// Weight of a step after the last one.
  T weight(T score) const noexcept { return math::exp(score - maximum) / total; }

  /// The sum becomes the weighted mean; sum and mean may be the same.
  void finish(std::int64_t width, const T* sum, T* mean) const noexcept {
    const T inverse = T{1} / total;
    for (std::int64_t i = 0; i < width; ++i) mean[i] = sum[i] * inverse;
  }
};

LSTMCORE_END_NAMESPACE
