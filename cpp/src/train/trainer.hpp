// The training loop: batches → scores → loss → gradient → clipping → optimiser, epoch after epoch.
//
// Same seed and data give bitwise the same weights for any number of threads: everything here either runs in a fixed
// order or treats elements one by one, and the network promises the same of its passes.
#pragma once

#include "base/cancel.hpp"
#include "base/denormals.hpp"
#include "base/namespace.hpp"
#include "base/rng.hpp"
#include "base/threads.hpp"
#include "train/batches.hpp"
#include "train/losses.hpp"
#include "train/update.hpp"

#include <lstmcore/trainer.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

LSTMCORE_BEGIN_NAMESPACE

/// Trains a Network (model/network.hpp): anything with parameters, forward and backward as there. The network must
/// outlive the loop. One loop serves one thread at a time.
template <class Network>
class TrainerLoop {
 public:
  using Scalar = typename Network::Scalar;

  TrainerLoop(Network& network, const TrainerConfig& config)
      : network_(network),
        config_(config),
        outputs_(network.config().outputs),
        updater_(config, network.tensors(), network.parameter_count(),
                 config.n_threads > 0 ? config.n_threads : network.config().recurrent.n_threads),
        gradient_(static_cast<std::size_t>(network.parameter_count())) {}

  const TrainerConfig& config() const noexcept { return config_; }

  /// One optimiser step on exactly these sequences, as one batch; returns their loss before it, penalty included.
  /// Throws Interrupted, or std::runtime_error where loss or gradient is not finite; the weights are then as before.
  double step(const Sequences& x, const Targets& y, const Cancel& cancel) {
    CancelToken token(&cancel);
    gather(x, y, nullptr, x.count);
    WeightedLoss loss;
    const std::string place = "step " + std::to_string(updater_.steps() + 1);
    if (!differentiate(token, gradient_.data(), loss, place)) throw_interrupted();
    const double penalty = updater_.penalty(network_.parameters());
    update(place);
    return loss.mean() + penalty;
  }

  /// One pass over the data in mini-batches. Sequences of weight 0 are left out as if they were not there.
  /// When interrupted, the weights are those after the last whole mini-batch; the schedule does not count the epoch.
  EpochResult run_epoch(const Sequences& x, const Targets& y, const Cancel& cancel) {
    CancelToken token(&cancel);
    const std::string place = "epoch " + std::to_string(updater_.learning_rate().epochs_finished() + 1);
    // Numbered by passes begun, so that an epoch after an interrupted one draws a new order.
    const std::uint64_t order_seed = mix(mix(config_.seed, order_stream), passes_++);
    plan_.prepare(x.lengths, y.weights, x.count, config_.batch_size, config_.shuffle, order_seed);

    EpochResult result;
    result.learning_rate = updater_.learning_rate().rate();
    WeightedLoss total;
    for (std::int64_t k = 0; k < plan_.size(); ++k) {
      const BatchPlan::Batch batch = plan_[k];
      gather(x, y, batch.members, batch.count);
      WeightedLoss loss;
      if (token.poll() || !differentiate(token, gradient_.data(), loss, place)) {
        result.interrupted = true;
        break;
      }
      loss.sum += loss.weight * updater_.penalty(network_.parameters());
      update(place);
      total += loss;
      result.sequences += batch.count;
    }
    result.loss = total.mean();
    if (!result.interrupted) updater_.learning_rate().epoch_finished();
    return result;
  }

  /// Mean loss without dropout and without penalty.
  double evaluate(const Sequences& x, const Targets& y) const {
    // In batches of the size that training uses, so that memory is what training needs anyway; by length, not in the
    // order of the data, so that batches are even.
    evaluation_plan_.prepare(x.lengths, y.weights, x.count, config_.batch_size, true, 0);
    WeightedLoss total;
    for (std::int64_t k = 0; k < evaluation_plan_.size(); ++k) {
      const BatchPlan::Batch batch = evaluation_plan_[k];
      gather(x, y, batch.members, batch.count);
      network_.forward(batch_.sequences(x.features), workspace_, batch_.scores.data(), false, 0, 0, threads(), nullptr);
      const FlushDenormals guard;
      total += evaluate_loss<Scalar>(config_.loss, config_.huber_delta, batch_.compared(outputs_), nullptr, 0.0,
                                     config_.quantiles);
    }
    return total.mean();
  }

  /// The quantity that the plateau schedule watches.
  void report(double monitored) { updater_.learning_rate().report(monitored); }

  /// Weights whose entry is 0 become 0 now, and stay so. [P], or empty: all are free.
  void set_mask(std::vector<std::uint8_t> mask) {
    apply_mask(mask, network_.parameters());
    network_.parameters_changed();
    updater_.set_mask(std::move(mask));
  }

  /// Loss and gradient of one batch, penalty included in both, clipping in neither; no update. With dropout, the masks
  /// are those that the next step() would draw. Throws Interrupted.
  double gradient(const Sequences& x, const Targets& y, Scalar* gradient, const Cancel& cancel) {
    CancelToken token(&cancel);
    gather(x, y, nullptr, x.count);
    WeightedLoss loss;
    if (!differentiate(token, gradient, loss, std::string())) throw_interrupted();
    updater_.add_penalty_gradient(network_.parameters(), gradient);
    return loss.mean() + updater_.penalty(network_.parameters());
  }

 private:
  // What the streams of random numbers under the seed are for; 3 is the updater's. The initial weights use names of
  // tensors instead.
  static constexpr std::uint64_t order_stream = 1, dropout_stream = 2;

  /// Everything that belongs to one batch; vectors keep their memory from batch to batch.
  struct Batch {
    std::vector<const void*> data;       // [N]
    std::vector<std::int64_t> lengths;   // [N]
    std::vector<std::int32_t> labels;    // [N], or empty
    std::vector<double> values;          // [N, K] on the scale of the scores, or empty
    std::vector<double> weights;         // [N], or empty
    std::vector<Scalar> scores, slopes;  // [N, K]

    Sequences sequences(std::int64_t features) const noexcept {
      return {data.data(), lengths.data(), static_cast<std::int64_t>(data.size()), features};
    }
    LossBatch<Scalar> compared(std::int64_t outputs) const noexcept {
      return {static_cast<std::int64_t>(data.size()),    outputs, scores.data(), labels.data(), values.data(),
              weights.empty() ? nullptr : weights.data()};
    }
  };

  int threads() const noexcept {
    return config_.n_threads > 0 ? config_.n_threads : network_.config().recurrent.n_threads;
  }

  /// members: positions in x and y, or nullptr for the first `count`.
  void gather(const Sequences& x, const Targets& y, const std::int64_t* members, std::int64_t count) const {
    const auto size = static_cast<std::size_t>(count), outputs = static_cast<std::size_t>(outputs_);
    Batch& batch = batch_;
    features_ = x.features;
    batch.data.resize(size);
    batch.lengths.resize(size);
    batch.labels.resize(y.labels == nullptr ? 0 : size);
    batch.values.resize(y.values == nullptr ? 0 : size * outputs);
    batch.weights.resize(y.weights == nullptr ? 0 : size);
    batch.scores.resize(size * outputs);
    batch.slopes.resize(size * outputs);
    const std::vector<double>& mean = network_.output_mean();
    const std::vector<double>& scale = network_.output_scale();
    for (std::size_t n = 0; n < size; ++n) {
      const std::int64_t member = members == nullptr ? static_cast<std::int64_t>(n) : members[n];
      batch.data[n] = x.data[member];
      batch.lengths[n] = x.lengths[member];
      if (y.labels != nullptr) batch.labels[n] = y.labels[member];
      if (y.weights != nullptr) batch.weights[n] = y.weights[member];
      if (y.values == nullptr) continue;
      for (std::size_t k = 0; k < outputs; ++k) {
        batch.values[n * outputs + k] =
            (y.values[member * outputs_ + static_cast<std::int64_t>(k)] - mean[k]) * scale[k];
      }
    }
  }

  /// Loss of the gathered batch, and its gradient without penalty. False when cancelled. place: for the message when
  /// the loss is not finite; empty: such a loss is the caller's to judge.
  bool differentiate(CancelToken& token, Scalar* gradient, WeightedLoss& loss, const std::string& place) {
    const std::uint64_t dropout_seed =
        mix(mix(config_.seed, dropout_stream), static_cast<std::uint64_t>(updater_.steps()));
    if (!network_.forward(batch_.sequences(features_), workspace_, batch_.scores.data(), true, dropout_seed,
                          config_.checkpoint_steps, threads(), &token)) {
      return false;
    }
    {
      const FlushDenormals guard;
      loss = evaluate_loss(config_.loss, config_.huber_delta, batch_.compared(outputs_), batch_.slopes.data(),
                           config_.label_smoothing, config_.quantiles);
    }
    if (!place.empty() && !std::isfinite(loss.sum)) updater_.throw_diverged("loss", place);
    return network_.backward(workspace_, batch_.slopes.data(), gradient, config_.bptt_steps, threads(), &token);
  }

  void update(const std::string& place) {
    updater_.step(network_.parameters(), gradient_.data(), place);
    network_.parameters_changed();
  }

  [[noreturn]] static void throw_interrupted() {
    throw Interrupted("training was interrupted; the weights are those after the last whole mini-batch");
  }

  Network& network_;
  TrainerConfig config_;
  std::int64_t outputs_;
  Updater<Scalar> updater_;
  std::uint64_t passes_ = 0;
  BatchPlan plan_;
  std::vector<Scalar> gradient_;
  // Scratch of evaluate() too, which changes nothing that later results depend on.
  mutable BatchPlan evaluation_plan_;
  mutable Batch batch_;
  mutable std::int64_t features_ = 0;
  mutable typename Network::Workspace workspace_;
};

LSTMCORE_END_NAMESPACE
