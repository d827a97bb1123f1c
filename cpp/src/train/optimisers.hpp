// Optimisers over the flat parameter vector: one pass that reads and writes every array once, clipping and penalty
// included. Notation: w weight, g gradient after clipping, η learning rate, t step counted from 1.
//
//   penalty  g ← g + α w (the gradient of ½ α w²), on weights only, after clipping, as torch.optim's weight_decay;
//            adamw instead shrinks the weights themselves, w ← (1 − η α) w
//   sgd      v ← μ v + g (v = g in the first step);  w ← w − η v, or w − η (g + μ v) with nesterov
//            (Polyak 1964; Nesterov 1983 in the form of Sutskever et al. 2013)
//   rmsprop  s ← s + (1 − ρ)(g² − s);  w ← w − η g / (√s + ε)                                (Tieleman & Hinton 2012)
//   adam     m ← m + (1 − β₁)(g − m);  s ← s + (1 − β₂)(g² − s);
//            w ← w − η / (1 − β₁ᵗ) · m / (√s / √(1 − β₂ᵗ) + ε)                             (Kingma & Ba 2014, alg. 1)
//   adamw    adam with the decoupled decay above                                  (Loshchilov & Hutter 2019, alg. 2)
//
// ε stands outside the root, as in torch.optim. Elements are independent, and no sum below has two products in it, so
// that a compiler which fuses multiply and add has one way to do so, in a vector and in the elements left over: any
// split among threads gives the same bits.
#pragma once

#include "base/namespace.hpp"
#include "base/threads.hpp"
#include "train/clipping.hpp"

#include <lstmcore/trainer.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

LSTMCORE_BEGIN_NAMESPACE

/// A stretch of the flat parameter vector with or without weight penalty.
struct ParameterRange {
  std::int64_t begin = 0, end = 0;
  bool penalised = false;
};

/// Whether ½ α w² applies: weight matrices and convolution kernels, not biases nor other vectors (peepholes, "P_…", are
/// three vectors or maps under one name).
inline bool is_penalised(const TensorInfo& tensor) {
  return tensor.shape.size() >= 2 && tensor.name.rfind("P_", 0) != 0;
}

/// The tensors as few ranges as possible. They cover the vector in order.
inline std::vector<ParameterRange> parameter_ranges(const std::vector<TensorInfo>& tensors) {
  std::vector<ParameterRange> ranges;
  for (const TensorInfo& tensor : tensors) {
    const bool penalised = is_penalised(tensor);
    const std::int64_t end = tensor.offset + tensor.count();
    if (!ranges.empty() && ranges.back().penalised == penalised && ranges.back().end == tensor.offset) {
      ranges.back().end = end;
    } else {
      ranges.push_back({tensor.offset, end, penalised});
    }
  }
  return ranges;
}

/// The solver's running averages and its steps.
template <class T>
class Descent {
 public:
  Descent(const TrainerConfig& config, const std::vector<TensorInfo>& tensors, std::int64_t parameter_count)
      : config_(config), ranges_(parameter_ranges(tensors)) {
    const auto count = static_cast<std::size_t>(parameter_count);
    const bool adam = config.solver == Solver::adam || config.solver == Solver::adamw;
    if (adam || (config.solver == Solver::sgd && config.momentum != 0.0)) first_.assign(count, T(0));
    if (adam || config.solver == Solver::rmsprop) second_.assign(count, T(0));
  }

  /// One step, by up to n_threads threads. gradient: finite, without the penalty.
  void update(double learning_rate, const Clip<T>& clip, T* parameters, const T* gradient, int n_threads = 1) {
    ++steps_;
    const std::int64_t count = ranges_.empty() ? 0 : ranges_.back().end;
    parallel(n_threads, [&](const Member& member) {
      const Member::Range share = member.share(count, 64);
      for (ParameterRange range : ranges_) {
        range.begin = std::max(range.begin, share.begin);
        range.end = std::min(range.end, share.end);
        if (range.begin < range.end) update_range(range, learning_rate, clip, parameters, gradient);
      }
    });
  }

  /// ½ α Σ w² over the penalised weights: what the solver's penalty adds to the loss. 0 for adamw, whose decay is the
  /// gradient of nothing.
  double penalty(const T* parameters) const noexcept {
    if (!penalised()) return 0.0;
    double sum = 0.0;
    for (const ParameterRange& range : ranges_) {
      if (range.penalised) sum += sum_of_squares(parameters + range.begin, range.end - range.begin);
    }
    return 0.5 * config_.alpha * sum;
  }

  /// gradient += α w on the penalised weights, for a caller who wants the gradient of the whole loss.
  void add_penalty_gradient(const T* parameters, T* gradient) const noexcept {
    if (!penalised()) return;
    const T alpha = static_cast<T>(config_.alpha);
    for (const ParameterRange& range : ranges_) {
      if (!range.penalised) continue;
      for (std::int64_t k = range.begin; k < range.end; ++k) gradient[k] += alpha * parameters[k];
    }
  }

  std::int64_t steps() const noexcept { return steps_; }

 private:
  bool penalised() const noexcept { return config_.alpha != 0.0 && config_.solver != Solver::adamw; }

  void update_range(const ParameterRange& range, double learning_rate, const Clip<T>& clip, T* parameters,
                    const T* gradient) noexcept {
    switch (config_.solver) {
      case Solver::sgd:
        if (first_.empty()) {
          descend(range, learning_rate, clip, parameters, gradient);
        } else if (config_.nesterov) {
          descend_with_momentum<true>(range, learning_rate, clip, parameters, gradient);
        } else {
          descend_with_momentum<false>(range, learning_rate, clip, parameters, gradient);
        }
        break;
      case Solver::rmsprop:
        rmsprop(range, learning_rate, clip, parameters, gradient);
        break;
      case Solver::adam:
      case Solver::adamw:
        adam(range, learning_rate, clip, parameters, gradient);
        break;
    }
  }

  /// Without branches, so that the loops below vectorise; a scale of 1, an infinite limit and an alpha of 0 are exact.
  static T effective(T gradient, T weight, const Clip<T>& clip, T alpha) noexcept {
    T g = gradient * clip.scale;
    g = g < -clip.limit ? -clip.limit : g;
    g = g > clip.limit ? clip.limit : g;
    return g + alpha * weight;
  }

  T alpha_of(const ParameterRange& range) const noexcept {
    return range.penalised && penalised() ? static_cast<T>(config_.alpha) : T(0);
  }

  void descend(const ParameterRange& range, double learning_rate, const Clip<T> clip, T* __restrict w,
               const T* __restrict gradient) const noexcept {
    const T eta = static_cast<T>(learning_rate), alpha = alpha_of(range);
    for (std::int64_t k = range.begin; k < range.end; ++k) w[k] -= eta * effective(gradient[k], w[k], clip, alpha);
  }

  /// The velocity begins at 0, and μ · 0 + g = g: the first step needs no case of its own.
  template <bool nesterov>
  void descend_with_momentum(const ParameterRange& range, double learning_rate, const Clip<T> clip, T* __restrict w,
                             const T* __restrict gradient) noexcept {
    const T eta = static_cast<T>(learning_rate), alpha = alpha_of(range), mu = static_cast<T>(config_.momentum);
    T* __restrict velocity = first_.data();
    for (std::int64_t k = range.begin; k < range.end; ++k) {
      const T g = effective(gradient[k], w[k], clip, alpha);
      const T v = mu * velocity[k] + g;
      velocity[k] = v;
      w[k] -= eta * (nesterov ? g + mu * v : v);
    }
  }

  void rmsprop(const ParameterRange& range, double learning_rate, const Clip<T> clip, T* __restrict w,
               const T* __restrict gradient) noexcept {
    const T eta = static_cast<T>(learning_rate), alpha = alpha_of(range), epsilon = static_cast<T>(config_.epsilon);
    const T complement = static_cast<T>(1.0 - config_.rho);
    T* __restrict square = second_.data();
    for (std::int64_t k = range.begin; k < range.end; ++k) {
      const T g = effective(gradient[k], w[k], clip, alpha);
      const T s = square[k] + complement * (g * g - square[k]);
      square[k] = s;
      w[k] -= eta * (g / (std::sqrt(s) + epsilon));
    }
  }

  void adam(const ParameterRange& range, double learning_rate, const Clip<T> clip, T* __restrict w,
            const T* __restrict gradient) noexcept {
    const auto t = static_cast<double>(steps_);
    const T step = static_cast<T>(learning_rate / (1.0 - std::pow(config_.beta_1, t)));
    const T root_correction = static_cast<T>(1.0 / std::sqrt(1.0 - std::pow(config_.beta_2, t)));
    const T epsilon = static_cast<T>(config_.epsilon), alpha = alpha_of(range);
    const T complement_1 = static_cast<T>(1.0 - config_.beta_1);
    const T complement_2 = static_cast<T>(1.0 - config_.beta_2);
    const bool decays = config_.solver == Solver::adamw && range.penalised;
    const T decay = decays ? static_cast<T>(learning_rate * config_.alpha) : T(0);
    T* __restrict mean = first_.data();
    T* __restrict square = second_.data();
    for (std::int64_t k = range.begin; k < range.end; ++k) {
      const T g = effective(gradient[k], w[k], clip, alpha);
      const T m = mean[k] + complement_1 * (g - mean[k]);
      const T s = square[k] + complement_2 * (g * g - square[k]);
      mean[k] = m;
      square[k] = s;
      const T decayed = w[k] - decay * w[k];
      w[k] = decayed - step * (m / (std::sqrt(s) * root_correction + epsilon));
    }
  }

  TrainerConfig config_;
  std::vector<ParameterRange> ranges_;
  std::vector<T> first_;   // velocity of sgd, mean of adam
  std::vector<T> second_;  // mean square of rmsprop and adam
  std::int64_t steps_ = 0;
};

LSTMCORE_END_NAMESPACE
