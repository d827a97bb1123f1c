// OptimiserEngine for one element type.
#pragma once

#include "engine/engine.hpp"
#include "train/update.hpp"

#include <string>

LSTMCORE_BEGIN_NAMESPACE

template <class T>
class FlatOptimiser final : public engine::OptimiserEngine {
 public:
  FlatOptimiser(const TrainerConfig& config, const std::vector<TensorInfo>& tensors)
      : updater_(config, tensors, tensors.back().offset + tensors.back().count(), config.n_threads) {}

  std::int64_t steps() const noexcept override { return updater_.steps(); }
  double step(void* parameters, void* gradient) override {
    return updater_.step(static_cast<T*>(parameters), static_cast<T*>(gradient),
                         "step " + std::to_string(updater_.steps() + 1));
  }
  double penalty(const void* parameters) const noexcept override {
    return updater_.penalty(static_cast<const T*>(parameters));
  }
  double learning_rate() const noexcept override { return updater_.learning_rate().rate(); }
  void epoch_finished() noexcept override { updater_.learning_rate().epoch_finished(); }
  void report(double monitored) noexcept override { updater_.learning_rate().report(monitored); }

 private:
  Updater<T> updater_;
};

LSTMCORE_END_NAMESPACE
