// Losses of a batch and their gradients with respect to the scores of the linear head.
//
//   loss of the batch = Σ_n w_n l_n / Σ_n w_n,  w_n the sample weights (1 without); 0, with gradient 0, where Σ w_n = 0
//
//   cross_entropy  l = log Σ_k exp(s_k) − s_y                          s: scores [K], y: class index
//                  with label smoothing ε: s_y → (1 − ε) s_y + ε mean_k s_k               (Szegedy et al. 2016)
//   squared        l = mean_k (s_k − y_k)²
//   absolute       l = mean_k |s_k − y_k|, with slope 0 at 0
//   huber          l = mean_k (½ e² where |e| ≤ δ, else δ(|e| − ½ δ)), e = s_k − y_k        (Huber 1964)
//   quantile       l = mean_k (τ (y_k − s_k) where y_k > s_k, else (1 − τ)(s_k − y_k)), τ the level of output k, with
//                  slope 0 at y_k = s_k                                             (Koenker & Bassett 1978)
//   gaussian       l = mean over pairs of log σ + ½ ((y − μ)/σ)² + ½ log 2π, scores (μ, r) side by side for each
//   number,
//                  σ = 10⁻³ + log(1 + exp r): bounded below, so that a series without noise does not make l diverge
//                                                                                     (Nix & Weigend 1994)
//
// The first four equal PyTorch's CrossEntropyLoss, MSELoss, L1Loss, HuberLoss with reduction "mean" where all weights
// are equal. Arithmetic is in double for either Scalar, in the order of the batch.
#pragma once

#include "base/namespace.hpp"

#include <lstmcore/trainer.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

LSTMCORE_BEGIN_NAMESPACE

/// Σ_n w_n l_n and Σ_n w_n over some sequences.
struct WeightedLoss {
  double sum = 0.0;
  double weight = 0.0;

  double mean() const noexcept { return weight > 0.0 ? sum / weight : 0.0; }
  WeightedLoss& operator+=(const WeightedLoss& other) noexcept {
    sum += other.sum;
    weight += other.weight;
    return *this;
  }
};

/// What a loss compares; borrowed memory.
template <class T>
struct LossBatch {
  std::int64_t count = 0;                ///< N
  std::int64_t outputs = 0;              ///< K
  const T* scores = nullptr;             ///< [N, K]
  const std::int32_t* labels = nullptr;  ///< [N], for cross_entropy
  const double* values = nullptr;        ///< [N, K], for the others, on the scale of the scores
  const double* weights = nullptr;       ///< [N], or nullptr for ones
};

namespace loss_detail {

/// f(e) and f'(e) of one error e = score − target.
struct Squared {
  double value(double e) const noexcept { return e * e; }
  double slope(double e) const noexcept { return 2.0 * e; }
};

struct Absolute {
  double value(double e) const noexcept { return std::abs(e); }
  double slope(double e) const noexcept { return e > 0.0 ? 1.0 : (e < 0.0 ? -1.0 : e); }  // NaN stays NaN
};

struct Huber {
  double delta;
  double value(double e) const noexcept {
    const double size = std::abs(e);
    return size <= delta ? 0.5 * e * e : delta * (size - 0.5 * delta);
  }
  double slope(double e) const noexcept { return e > delta ? delta : (e < -delta ? -delta : e); }
};

inline double total_weight(const double* weights, std::int64_t count) noexcept {
  if (weights == nullptr) return static_cast<double>(count);
  double total = 0.0;
  for (std::int64_t n = 0; n < count; ++n) total += weights[n];
  return total;
}

template <class T, class Error>
double elementwise(const LossBatch<T>& batch, Error error, double inverse_weight, T* gradient) {
  double sum = 0.0;
  const double per_output = 1.0 / static_cast<double>(batch.outputs);
  for (std::int64_t n = 0; n < batch.count; ++n) {
    const double weight = batch.weights == nullptr ? 1.0 : batch.weights[n];
    const T* scores = batch.scores + n * batch.outputs;
    const double* values = batch.values + n * batch.outputs;
    double row = 0.0;
    for (std::int64_t k = 0; k < batch.outputs; ++k) row += error.value(static_cast<double>(scores[k]) - values[k]);
    // A weight of 0 leaves a sequence out, whatever its scores: 0 · inf would not.
    if (weight != 0.0) sum += weight * (row * per_output);
    if (gradient == nullptr) continue;
    T* slopes = gradient + n * batch.outputs;
    const double factor = weight * inverse_weight * per_output;
    for (std::int64_t k = 0; k < batch.outputs; ++k) {
      slopes[k] =
          factor == 0.0 ? T(0) : static_cast<T>(factor * error.slope(static_cast<double>(scores[k]) - values[k]));
    }
  }
  return sum;
}

template <class T>
double quantile(const LossBatch<T>& batch, const std::vector<double>& levels, double inverse_weight, T* gradient) {
  double sum = 0.0;
  const double per_output = 1.0 / static_cast<double>(batch.outputs);
  for (std::int64_t n = 0; n < batch.count; ++n) {
    const double weight = batch.weights == nullptr ? 1.0 : batch.weights[n];
    const std::int64_t row = n * batch.outputs;
    const double factor = weight * inverse_weight * per_output;
    double total = 0.0;
    std::size_t level = 0;
    for (std::int64_t k = 0; k < batch.outputs; ++k) {
      const double error = static_cast<double>(batch.scores[row + k]) - batch.values[row + k];
      // NaN stays NaN, for the check of the sum.
      const double slope = error > 0.0 ? 1.0 - levels[level] : (error < 0.0 ? -levels[level] : error);
      total += slope * error;
      if (gradient != nullptr) gradient[row + k] = factor == 0.0 ? T(0) : static_cast<T>(factor * slope);
      if (++level == levels.size()) level = 0;
    }
    if (weight != 0.0) sum += weight * (total * per_output);
  }
  return sum;
}

template <class T>
double gaussian(const LossBatch<T>& batch, double inverse_weight, T* gradient) {
  constexpr double half_log_two_pi = 0.91893853320467274178, least_deviation = 1e-3;
  double sum = 0.0;
  const double per_number = 2.0 / static_cast<double>(batch.outputs);
  for (std::int64_t n = 0; n < batch.count; ++n) {
    const double weight = batch.weights == nullptr ? 1.0 : batch.weights[n];
    const std::int64_t row = n * batch.outputs;
    const double factor = weight * inverse_weight * per_number;
    double total = 0.0;
    for (std::int64_t k = 0; k < batch.outputs; k += 2) {
      const auto raw = static_cast<double>(batch.scores[row + k + 1]);
      const double small = std::exp(-std::abs(raw));  // log(1 + exp r) without overflow
      const double deviation = least_deviation + std::log1p(small) + (raw > 0.0 ? raw : 0.0);
      const double error = (static_cast<double>(batch.scores[row + k]) - batch.values[row + k]) / deviation;
      total += half_log_two_pi + std::log(deviation) + 0.5 * error * error;
      if (gradient == nullptr) continue;
      const double sigmoid = (raw > 0.0 ? 1.0 : small) / (1.0 + small);
      gradient[row + k] = factor == 0.0 ? T(0) : static_cast<T>(factor * error / deviation);
      gradient[row + k + 1] =
          factor == 0.0 ? T(0) : static_cast<T>(factor * (1.0 - error * error) / deviation * sigmoid);
    }
    if (weight != 0.0) sum += weight * (total * per_number);
  }
  return sum;
}

template <class T>
double cross_entropy(const LossBatch<T>& batch, double smoothing, double inverse_weight, T* gradient) {
  double sum = 0.0;
  const std::int64_t K = batch.outputs;
  const double everywhere = smoothing / static_cast<double>(K);
  for (std::int64_t n = 0; n < batch.count; ++n) {
    const double weight = batch.weights == nullptr ? 1.0 : batch.weights[n];
    const T* scores = batch.scores + n * K;
    const std::int32_t label = batch.labels[n];
    std::int64_t top = 0;
    for (std::int64_t k = 1; k < K; ++k) top = scores[k] > scores[top] ? k : top;
    const auto maximum = static_cast<double>(scores[top]);
    // Σ_k exp(s_k − max) = 1 + rest: log1p keeps the small loss of a sure and right answer.
    double rest = 0.0;
    T* slopes = gradient == nullptr ? nullptr : gradient + n * K;
    for (std::int64_t k = 0; k < K; ++k) {
      const double term = std::exp(static_cast<double>(scores[k]) - maximum);
      rest += k == top ? 0.0 : term;
      if (slopes != nullptr) slopes[k] = static_cast<T>(term);
    }
    if (weight != 0.0) {
      double nearness = maximum - static_cast<double>(scores[label]);
      if (smoothing != 0.0) {
        double mean = 0.0;
        for (std::int64_t k = 0; k < K; ++k) mean += maximum - static_cast<double>(scores[k]);
        nearness = (1.0 - smoothing) * nearness + everywhere * mean;
      }
      sum += weight * (std::log1p(rest) + nearness);
    }
    if (slopes == nullptr) continue;
    const double factor = weight * inverse_weight;
    const double per_term = factor / (1.0 + rest);
    for (std::int64_t k = 0; k < K; ++k) {
      const double slope = per_term * static_cast<double>(slopes[k]) - factor * everywhere -
                           (k == label ? factor * (1.0 - smoothing) : 0.0);
      slopes[k] = factor == 0.0 ? T(0) : static_cast<T>(slope);
    }
  }
  return sum;
}

}  // namespace loss_detail

/// Loss of a batch; where gradient is not nullptr, d(Σ w l / Σ w)/d scores goes there ([N, K], overwritten).
/// delta: of Loss::huber, > 0, on the scale of the scores; smoothing: of cross_entropy; quantiles: levels of quantile.
template <class T>
WeightedLoss evaluate_loss(Loss loss, double delta, const LossBatch<T>& batch, T* gradient, double smoothing = 0.0,
                           const std::vector<double>& quantiles = {}) {
  WeightedLoss result;
  result.weight = loss_detail::total_weight(batch.weights, batch.count);
  const double inverse = result.weight > 0.0 ? 1.0 / result.weight : 0.0;
  switch (loss) {
    case Loss::cross_entropy:
      result.sum = loss_detail::cross_entropy(batch, smoothing, inverse, gradient);
      break;
    case Loss::squared:
      result.sum = loss_detail::elementwise(batch, loss_detail::Squared{}, inverse, gradient);
      break;
    case Loss::absolute:
      result.sum = loss_detail::elementwise(batch, loss_detail::Absolute{}, inverse, gradient);
      break;
    case Loss::huber:
      result.sum = loss_detail::elementwise(batch, loss_detail::Huber{delta}, inverse, gradient);
      break;
    case Loss::quantile:
      result.sum = loss_detail::quantile(batch, quantiles, inverse, gradient);
      break;
    case Loss::gaussian:
      result.sum = loss_detail::gaussian(batch, inverse, gradient);
      break;
  }
  return result;
}

LSTMCORE_END_NAMESPACE
