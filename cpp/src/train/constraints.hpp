// What an update does besides descending: noise on the gradient before it, bounds and zeros of weights after it.
#pragma once

#include "base/rng.hpp"
#include "train/clipping.hpp"
#include "train/optimisers.hpp"

#include <cstdint>
#include <vector>

LSTMCORE_BEGIN_NAMESPACE

/// Clips the gradient and adds Gaussian noise of variance η / (1 + step)^0.55 (Neelakantan et al. 2015, eq. 1). An
/// element's noise depends on seed, step and its position only.
template <class T>
void add_noise(double eta, std::int64_t step, std::uint64_t seed, const Clip<T>& clip, std::int64_t count,
               T* gradient) {
  const double deviation = std::sqrt(eta / std::pow(1.0 + static_cast<double>(step), 0.55));
  Rng rng(mix(seed, static_cast<std::uint64_t>(step)));
  for (std::int64_t k = 0; k < count; ++k) {
    const T clipped = std::min(std::max(gradient[k] * clip.scale, -clip.limit), clip.limit);
    gradient[k] = clipped + static_cast<T>(deviation * rng.normal());
  }
}

/// Rows of weight matrices, of kernels all that the first axis counts, that are longer than `limit` are scaled back to
/// it: the weights into one unit's gate (Srivastava et al. 2014, section 5.1).
template <class T>
void limit_row_norms(double limit, const std::vector<TensorInfo>& tensors, T* parameters) noexcept {
  for (const TensorInfo& tensor : tensors) {
    if (!is_penalised(tensor)) continue;
    const std::int64_t columns = tensor.count() / tensor.shape[0];
    for (std::int64_t row = 0; row < tensor.shape[0]; ++row) {
      T* const weights = parameters + tensor.offset + row * columns;
      const double norm = std::sqrt(sum_of_squares(weights, columns));
      if (norm <= limit) continue;
      const T factor = static_cast<T>(limit / norm);
      for (std::int64_t k = 0; k < columns; ++k) weights[k] *= factor;
    }
  }
}

/// Weights (or their gradient) whose entry is 0 become 0.
template <class T>
void apply_mask(const std::vector<std::uint8_t>& mask, T* values) noexcept {
  for (std::size_t k = 0; k < mask.size(); ++k) {
    if (mask[k] == 0) values[k] = T{0};
  }
}

LSTMCORE_END_NAMESPACE
