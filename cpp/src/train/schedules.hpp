// The learning rate of each epoch.
//
//   e: epochs finished, counted from 0;  η: TrainerConfig::learning_rate
//   constant  η
//   step      η · factor^⌊e / every⌋
//   cosine    η · ½ (1 + cos(π e / epochs))    (Loshchilov & Hutter 2017, eq. 5); past the horizon the rate of the last
//             epoch inside it stays, so that a fit which goes on still learns
//   plateau   η · factor^r, r the number of reductions: one after `every` reports in a row that were not below the
//             best so far by more than `tolerance` (PyTorch's ReduceLROnPlateau with patience = every − 1,
//             threshold_mode = "abs"); NaN counts as no progress
#pragma once

#include "base/namespace.hpp"

#include <lstmcore/trainer.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

LSTMCORE_BEGIN_NAMESPACE

class LearningRate {
 public:
  explicit LearningRate(const TrainerConfig& config) : config_(config) {}

  /// Of the epoch that runs now.
  double rate() const noexcept {
    switch (config_.schedule) {
      case Schedule::constant:
        return config_.learning_rate;
      case Schedule::step:
        return decayed(epoch_ / config_.schedule_every);
      case Schedule::cosine: {
        const double done = static_cast<double>(std::min(epoch_, config_.epochs - 1));
        return config_.learning_rate * 0.5 * (1.0 + std::cos(pi * done / static_cast<double>(config_.epochs)));
      }
      case Schedule::plateau:
        return decayed(reductions_);
    }
    return config_.learning_rate;
  }

  void epoch_finished() noexcept { ++epoch_; }

  /// Of no effect on the other schedules.
  void report(double monitored) noexcept {
    if (monitored < best_ - config_.tolerance) {
      best_ = monitored;
      without_progress_ = 0;
    } else if (++without_progress_ >= config_.schedule_every) {
      ++reductions_;
      without_progress_ = 0;
    }
  }

  std::int64_t epochs_finished() const noexcept { return epoch_; }

 private:
  static constexpr double pi = 3.14159265358979323846;

  double decayed(std::int64_t times) const noexcept {
    return config_.learning_rate * std::pow(config_.schedule_factor, static_cast<double>(times));
  }

  TrainerConfig config_;
  std::int64_t epoch_ = 0;
  std::int64_t reductions_ = 0;
  std::int64_t without_progress_ = 0;
  double best_ = std::numeric_limits<double>::infinity();
};

LSTMCORE_END_NAMESPACE
