// Solver, clipping and learning-rate schedule for a training loop of one's own: what Trainer does after backward().
#pragma once

#include <lstmcore/trainer.hpp>

namespace lstmcore {

/// Updates a flat parameter vector from its gradients. One thread at a time.
class LSTMCORE_API Optimiser {
 public:
  /// config: solver and schedule with their options, alpha, clip_norm, clip_value, max_norm, gradient_noise, seed and
  /// n_threads; what belongs to loss, batches and BPTT is for the caller's loop and is not read.
  /// tensors: what the vector consists of, one after another from offset 0 on, each name once. alpha and max_norm apply
  /// to tensors of two or more axes, the first of which counts units, but not to those named "P_…" (peepholes).
  /// Throws std::invalid_argument.
  Optimiser(const TrainerConfig& config, Dtype dtype, std::vector<TensorInfo> tensors);
  ~Optimiser();
  Optimiser(Optimiser&&) noexcept;
  Optimiser& operator=(Optimiser&&) noexcept;

  const TrainerConfig& config() const noexcept;
  Dtype dtype() const noexcept;
  const std::vector<TensorInfo>& tensors() const noexcept;
  std::int64_t parameter_count() const noexcept;
  /// Steps done.
  std::int64_t steps() const noexcept;

  /// One step: clip, noise, update, bound on rows, as Trainer does it. parameters, gradient: parameter_count() elements
  /// of dtype; gradient without the penalty, which is added here; with gradient_noise it is overwritten. Returns the
  /// gradient's norm before clipping. Throws std::runtime_error where that is not finite; nothing has changed then.
  double step(void* parameters, void* gradient);

  /// ½·alpha·Σw² over the weights that alpha applies to: what belongs to the loss. 0 for adamw.
  double penalty(const void* parameters) const;

  /// Of the epoch that runs now.
  double learning_rate() const noexcept;
  /// Moves the schedule on.
  void epoch_finished() noexcept;
  /// Reports the quantity that the plateau schedule watches (lower is better), once an epoch.
  void report(double monitored) noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace lstmcore
