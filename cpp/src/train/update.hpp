// From a gradient to new weights, the one way that every training here goes: check, clip, noise, solver, bound on rows.
#pragma once

#include "base/namespace.hpp"
#include "base/rng.hpp"
#include "base/threads.hpp"
#include "train/clipping.hpp"
#include "train/constraints.hpp"
#include "train/optimisers.hpp"
#include "train/schedules.hpp"

#include <lstmcore/trainer.hpp>

#include <cmath>
#include <cstdint>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

LSTMCORE_BEGIN_NAMESPACE

/// Solver and schedule of one parameter vector. One thread at a time.
template <class T>
class Updater {
 public:
  /// n_threads: upper bound, 0: all cores.
  Updater(const TrainerConfig& config, const std::vector<TensorInfo>& tensors, std::int64_t parameter_count,
          int n_threads)
      : config_(config),
        tensors_(tensors),
        count_(parameter_count),
        n_threads_(n_threads),
        descent_(config, tensors, parameter_count),
        learning_rate_(config) {}

  /// One step. gradient: without the penalty; with gradient noise it is overwritten. Returns the gradient's norm before
  /// clipping. Throws std::runtime_error, nothing changed, where it is not finite; place is for the message.
  double step(T* parameters, T* gradient, const std::string& place) {
    apply_mask(mask_, gradient);
    const int team = count_ < shared_pass ? 1 : usable_threads(n_threads_);
    const double norm = std::sqrt(sum_of_squares(gradient, count_, team, partial_));
    if (!std::isfinite(norm)) throw_diverged("gradient", place);
    Clip<T> clip = make_clip<T>(norm, config_.clip_norm, config_.clip_value);
    if (config_.gradient_noise > 0.0) {
      add_noise(config_.gradient_noise, descent_.steps(), mix(config_.seed, noise_stream), clip, count_, gradient);
      clip = Clip<T>{};
    }
    descent_.update(learning_rate_.rate(), clip, parameters, gradient, team);
    if (config_.max_norm > 0.0) limit_row_norms(config_.max_norm, tensors_, parameters);
    apply_mask(mask_, parameters);
    return norm;
  }

  /// Weights whose entry is 0 are 0 after every further step. [P], or empty: all are free.
  void set_mask(std::vector<std::uint8_t> mask) { mask_ = std::move(mask); }

  [[noreturn]] void throw_diverged(const char* what, const std::string& place) const {
    std::ostringstream message;
    message << "the " << what << " became NaN or infinite in " << place
            << "; the weights are those before this mini-batch; lower learning_rate (" << learning_rate_.rate()
            << " now) or ";
    if (config_.clip_norm > 0.0) {
      message << "clip_norm (" << config_.clip_norm << " now)";
    } else {
      message << "set clip_norm";
    }
    throw std::runtime_error(message.str());
  }

  /// Steps done.
  std::int64_t steps() const noexcept { return descent_.steps(); }
  double penalty(const T* parameters) const noexcept { return descent_.penalty(parameters); }
  void add_penalty_gradient(const T* parameters, T* gradient) const noexcept {
    descent_.add_penalty_gradient(parameters, gradient);
  }
  LearningRate& learning_rate() noexcept { return learning_rate_; }
  const LearningRate& learning_rate() const noexcept { return learning_rate_; }

 private:
  /// Stream of random numbers under the seed; 1 and 2 are the training loop's (trainer.hpp).
  static constexpr std::uint64_t noise_stream = 3;

  /// From so many parameters on, threads share the passes over the parameter vector: below, waking them costs more.
  static constexpr std::int64_t shared_pass = 262144;

  TrainerConfig config_;
  std::vector<TensorInfo> tensors_;
  std::int64_t count_;
  int n_threads_;
  Descent<T> descent_;
  LearningRate learning_rate_;
  std::vector<double> partial_;
  std::vector<std::uint8_t> mask_;
};

LSTMCORE_END_NAMESPACE
