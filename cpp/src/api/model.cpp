#include <lstmcore/model.hpp>

#include "api/checks.hpp"
#include "api/model_impl.hpp"
#include "model/file/model_file.hpp"

#include <algorithm>
#include <cmath>

namespace lstmcore {

struct StreamState::Impl {
  std::unique_ptr<engine::StreamEngine> engine;
  const engine::ModelEngine* owner = nullptr;
};

StreamState::StreamState() : impl_(std::make_unique<Impl>()) {}
StreamState::~StreamState() = default;
StreamState::StreamState(StreamState&&) noexcept = default;
StreamState& StreamState::operator=(StreamState&&) noexcept = default;
void StreamState::reset() noexcept { impl_->engine->reset(); }

Model::Model() : impl_(std::make_unique<Impl>()) {}

Model::Model(const ModelConfig& config) : Model() {
  checks::check(config);
  impl_->engine = engine::current().make_model(config);
  const auto inputs = static_cast<std::size_t>(config.recurrent.input_size);
  const auto outputs = static_cast<std::size_t>(config.outputs);
  set_preprocessing(std::vector<double>(inputs, 0.0), std::vector<double>(inputs, 1.0),
                    std::vector<double>(outputs, 0.0), std::vector<double>(outputs, 1.0));
}
Model::~Model() = default;
Model::Model(Model&&) noexcept = default;
Model& Model::operator=(Model&&) noexcept = default;

std::vector<TensorInfo> Model::tensors_of(const ModelConfig& config) {
  checks::check(config);
  return engine::current().tensors(config);
}

Model Model::load(const std::string& path) {
  std::map<std::string, std::string> metadata;
  Model model = file::read_model(path, metadata);
  model.impl_->metadata = std::move(metadata);
  return model;
}

void Model::save(const std::string& path, const std::map<std::string, std::string>& metadata) const {
  file::write_model(path, *this, metadata);
}

const std::map<std::string, std::string>& Model::metadata() const noexcept { return impl_->metadata; }
const ModelConfig& Model::config() const noexcept { return impl_->engine->config(); }
const std::vector<std::string>& Model::gates() const noexcept { return impl_->engine->gates(); }
const std::vector<std::string>& Model::states() const noexcept { return impl_->engine->states(); }
const std::vector<TensorInfo>& Model::tensors() const noexcept { return impl_->engine->tensors(); }
std::int64_t Model::parameter_count() const noexcept { return tensors().back().offset + tensors().back().count(); }
void* Model::parameters() noexcept { return impl_->engine->parameters(); }
const void* Model::parameters() const noexcept { return impl_->engine->parameters(); }
void Model::parameters_changed() { impl_->engine->parameters_changed(); }

Int8Matrix Model::int8_matrix(const std::string& tensor) const {
  const std::vector<TensorInfo>& all = tensors();
  const auto found = std::find_if(all.begin(), all.end(), [&](const TensorInfo& info) { return info.name == tensor; });
  if (found == all.end() || !in_int8(config(), tensor)) {
    checks::fail("tensor: expected the name of W or R of a recurrent layer of a quantised model, got '" + tensor + "'");
  }
  Int8Matrix matrix;
  matrix.integers.resize(static_cast<std::size_t>(found->count()));
  matrix.scales.resize(static_cast<std::size_t>(found->shape[0]));
  impl_->engine->read_int8(*found, matrix.integers.data(), matrix.scales.data());
  return matrix;
}

void Model::set_preprocessing(const std::vector<double>& input_mean, const std::vector<double>& input_scale,
                              const std::vector<double>& output_mean, const std::vector<double>& output_scale) {
  const auto check = [](const char* name, const std::vector<double>& values, std::int64_t expected, bool positive) {
    if (static_cast<std::int64_t>(values.size()) != expected) {
      checks::fail(std::string(name) + ": expected " + std::to_string(expected) + " numbers, got " +
                   std::to_string(values.size()));
    }
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (!std::isfinite(values[i]) || (positive && !(values[i] > 0))) {
        checks::fail(std::string(name) + ": number " + std::to_string(i) + ": expected a finite number" +
                     (positive ? " above 0" : "") + ", got " + std::to_string(values[i]));
      }
    }
  };
  check("input_mean", input_mean, config().recurrent.input_size, false);
  check("input_scale", input_scale, config().recurrent.input_size, true);
  check("output_mean", output_mean, config().outputs, false);
  check("output_scale", output_scale, config().outputs, true);
  impl_->engine->set_preprocessing(input_mean, input_scale, output_mean, output_scale);
  impl_->input_mean = input_mean;
  impl_->input_scale = input_scale;
  impl_->output_mean = output_mean;
  impl_->output_scale = output_scale;
}

const std::vector<double>& Model::input_mean() const noexcept { return impl_->input_mean; }
const std::vector<double>& Model::input_scale() const noexcept { return impl_->input_scale; }
const std::vector<double>& Model::output_mean() const noexcept { return impl_->output_mean; }
const std::vector<double>& Model::output_scale() const noexcept { return impl_->output_scale; }

void Model::predict(const Sequences& x, void* out, int n_threads) const {
  checks::check(x, config().recurrent.input_size);
  if (out == nullptr) checks::fail("out: expected room for N × outputs elements, got null");
  if (n_threads < 0) checks::fail("n_threads: expected 0 (the config's) or more, got " + std::to_string(n_threads));
  impl_->engine->predict(x, out, n_threads);
}

StreamState Model::make_state() const {
  if (config().recurrent.reverse) {
    checks::fail("step: a model that reads in reverse needs the whole sequence; use predict()");
  }
  if (config().recurrent.bidirectional) {
    checks::fail(
        "step: a bidirectional model needs the whole sequence; use predict(), or train with bidirectional=False");
  }
  if (config().pooling == Pooling::hopfield && config().pooling_updates > 0) {
    checks::fail(
        "step: pooling 'hopfield' with pooling_updates=" + std::to_string(config().pooling_updates) +
        " needs the whole sequence, for every new step changes the patterns that it reads with; use predict(), "
        "or train with pooling_updates=0 or another pooling ('last', 'mean', 'max', 'attention')");
  }
  StreamState state;
  state.impl_->engine = impl_->engine->make_stream();
  state.impl_->owner = impl_->engine.get();
  return state;
}

void Model::step(const void* x, StreamState& state, void* out) const noexcept { state.impl_->engine->step(x, out); }

std::vector<double> Model::state_values(const StreamState& state) const { return state.impl_->engine->values(); }

void Model::set_state_values(StreamState& state, const std::vector<double>& values) const {
  if (state.impl_->owner != impl_->engine.get()) checks::fail("state: it belongs to another model");
  const std::size_t expected = state.impl_->engine->values().size();
  if (values.size() != expected) {
    checks::fail("values: expected " + std::to_string(expected) + " numbers, got " + std::to_string(values.size()));
  }
  state.impl_->engine->set_values(values);
}

}  // namespace lstmcore
