#include <lstmcore/trainer.hpp>

#include "api/checks.hpp"
#include "api/model_impl.hpp"

#include <algorithm>
#include <string>
#include <utility>

namespace lstmcore {

struct Trainer::Impl {
  engine::ModelEngine* model = nullptr;
  TrainerConfig config;
  std::unique_ptr<engine::TrainerEngine> engine;

  void check(const Sequences& x, const Targets& y) const {
    checks::check(x, model->config().recurrent.input_size);
    checks::check(y, config, model->config(), x.count);
  }
};

Trainer::Trainer(Model& model, const TrainerConfig& config) : impl_(std::make_unique<Impl>()) {
  checks::check(config);
  const bool labels = config.loss == Loss::cross_entropy;
  if (labels != (model.config().activation == Activation::softmax)) {
    checks::fail(labels ? "loss: cross_entropy needs a model with a softmax head"
                        : "loss: all but cross_entropy need a model with an identity head");
  }
  const std::int64_t outputs = model.config().outputs, levels = static_cast<std::int64_t>(config.quantiles.size());
  if (levels > 0 && outputs % levels != 0) {
    checks::fail("quantiles: expected a divisor of the model's " + std::to_string(outputs) + " outputs many, got " +
                 std::to_string(levels));
  }
  if (config.loss == Loss::gaussian && outputs % 2 != 0) {
    checks::fail("loss: gaussian needs an even number of outputs, got " + std::to_string(outputs));
  }
  if (model.config().quantization != Quantization::none) {
    checks::fail(
        "model: it is quantised (dynamic_int8), which is for prediction only; train the model that it was made of and "
        "quantise that again");
  }
  if (model.config().pooling == Pooling::none) {
    checks::fail(
        "model: pooling 'none' gives outputs at every step, which cannot be trained yet; use pooling 'last', "
        "'mean', 'max', 'attention' or 'hopfield'");
  }
  impl_->model = model.impl_->engine.get();
  impl_->config = config;
  if (config.checkpoint_steps > 0) {
    const Pooling pooling = model.config().pooling;
    if (model.config().recurrent.bidirectional || model.config().recurrent.reverse) {
      checks::fail(
          "checkpoint_steps: a bidirectional or reverse network needs whole sequences; use 0, or bidirectional=False");
    }
    if (pooling != Pooling::last && pooling != Pooling::mean && pooling != Pooling::max) {
      checks::fail("checkpoint_steps: this pooling needs all steps at once; use 0, or pooling 'last', 'mean' or 'max'");
    }
    // Windows of truncated BPTT must not lie across two windows of the recording.
    const std::int64_t window = std::max<std::int64_t>(1, config.bptt_steps);
    impl_->config.checkpoint_steps = (config.checkpoint_steps + window - 1) / window * window;
  }
  impl_->engine = impl_->model->make_trainer(impl_->config);
}
Trainer::~Trainer() = default;
Trainer::Trainer(Trainer&&) noexcept = default;
Trainer& Trainer::operator=(Trainer&&) noexcept = default;

const TrainerConfig& Trainer::config() const noexcept { return impl_->config; }

double Trainer::step(const Sequences& x, const Targets& y, const Cancel& cancel) {
  impl_->check(x, y);
  return impl_->engine->step(x, y, cancel);
}

EpochResult Trainer::run_epoch(const Sequences& x, const Targets& y, const Cancel& cancel) {
  impl_->check(x, y);
  return impl_->engine->run_epoch(x, y, cancel);
}

double Trainer::evaluate(const Sequences& x, const Targets& y) const {
  impl_->check(x, y);
  return impl_->engine->evaluate(x, y);
}

void Trainer::report(double monitored) { impl_->engine->report(monitored); }

void Trainer::set_mask(std::vector<std::uint8_t> mask) {
  std::int64_t count = 0;
  for (const TensorInfo& tensor : impl_->model->tensors()) count += tensor.count();
  if (!mask.empty() && static_cast<std::int64_t>(mask.size()) != count) {
    checks::fail("mask: expected one entry for each of " + std::to_string(count) + " parameters, or none, got " +
                 std::to_string(mask.size()));
  }
  impl_->engine->set_mask(std::move(mask));
}

double Trainer::gradient(const Sequences& x, const Targets& y, void* gradient, const Cancel& cancel) {
  impl_->check(x, y);
  if (gradient == nullptr) checks::fail("gradient: expected room for parameter_count() elements, got null");
  return impl_->engine->gradient(x, y, gradient, cancel);
}

}  // namespace lstmcore
