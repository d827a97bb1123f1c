// Gradient clipping: first the whole gradient to a norm (Pascanu, Mikolov & Bengio 2013), then each element to a value.
// Both are factors and limits that the optimiser applies as it reads the gradient, so that clipping costs no pass.
#pragma once

#include "base/namespace.hpp"
#include "base/threads.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

LSTMCORE_BEGIN_NAMESPACE

/// Σ_k x_k², in double. The order of summation is part of the definition (32 interleaved partial sums), so that the
/// result does not depend on vector width; for float each term is exact, and the sum is the same on every engine.
template <class T>
double sum_of_squares(const T* x, std::int64_t count) noexcept {
  constexpr std::int64_t lanes = 32;
  std::array<double, lanes> partial{};
  std::int64_t k = 0;
  for (; k + lanes <= count; k += lanes) {
    for (std::int64_t lane = 0; lane < lanes; ++lane) {
      const auto value = static_cast<double>(x[k + lane]);
      partial[static_cast<std::size_t>(lane)] += value * value;
    }
  }
  for (std::int64_t lane = 0; k + lane < count; ++lane) {
    const auto value = static_cast<double>(x[k + lane]);
    partial[static_cast<std::size_t>(lane)] += value * value;
  }
  double sum = 0.0;
  for (const double value : partial) sum += value;
  return sum;
}

/// The same for a long vector, by up to n_threads threads: sums of pieces of fixed size, added in order.
/// partial: scratch that keeps its memory from call to call.
template <class T>
double sum_of_squares(const T* x, std::int64_t count, int n_threads, std::vector<double>& partial) {
  constexpr std::int64_t piece = 32768;
  const std::int64_t pieces = (count + piece - 1) / piece;
  partial.assign(static_cast<std::size_t>(pieces), 0.0);
  parallel(n_threads, [&](const Member& member) {
    const Member::Range share = member.share(pieces);
    for (std::int64_t k = share.begin; k < share.end; ++k) {
      partial[static_cast<std::size_t>(k)] = sum_of_squares(x + k * piece, std::min(piece, count - k * piece));
    }
  });
  double sum = 0.0;
  for (const double value : partial) sum += value;
  return sum;
}

/// gradient element → min(max(scale · element, −limit), limit)
template <class T>
struct Clip {
  T scale = T(1);
  T limit = std::numeric_limits<T>::infinity();
};

/// norm: of the whole gradient. clip_norm, clip_value: as in TrainerConfig, 0 for off.
/// The 10⁻⁶ is that of PyTorch's clip_grad_norm_.
template <class T>
Clip<T> make_clip(double norm, double clip_norm, double clip_value) noexcept {
  Clip<T> clip;
  if (clip_norm > 0.0 && clip_norm < norm + 1e-6) clip.scale = static_cast<T>(clip_norm / (norm + 1e-6));
  if (clip_value > 0.0) clip.limit = static_cast<T>(clip_value);
  return clip;
}

LSTMCORE_END_NAMESPACE
