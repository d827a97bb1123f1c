// Layers and models with products in bf16 through the public API: rounding, threads, streams, training, files, and what
// is refused.
#include "check.hpp"

#include <lstmcore/trainer.hpp>

#include <cmath>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

using namespace lstmcore;

namespace {

constexpr std::int64_t kInputs = 5;

RecurrentConfig layers_of(const std::string& cell, Precision precision) {
  RecurrentConfig config;
  config.cell = cell;
  config.input_size = kInputs;
  config.hidden_size = 21;
  config.num_layers = 2;
  config.seed = 3;
  config.precision = precision;
  return config;
}

ModelConfig config_of(const std::string& cell, Precision precision) {
  ModelConfig config;
  config.recurrent = layers_of(cell, precision);
  config.outputs = 4;
  config.activation = Activation::softmax;
  return config;
}

std::vector<float> predict(const Model& model, const std::vector<float>& x, std::int64_t steps, int n_threads = 1) {
  std::vector<float> out(4);
  const void* data = x.data();
  model.predict({&data, &steps, 1, kInputs}, out.data(), n_threads);
  return out;
}

std::vector<float> input(std::int64_t steps) {
  std::vector<float> x;
  for (std::int64_t i = 0; i < steps * kInputs; ++i) x.push_back(static_cast<float>((i * 37) % 19 - 9) / 4.1F);
  return x;
}

/// Half to even.
float rounded(float value) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof bits);
  bits = (bits + 0x7fffU + (bits >> 16 & 1U)) & 0xffff0000U;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

/// One step from zero: float32 layers with rounded weights and a rounded input give the very bits.
void test_first_step(const std::string& cell) {
  RecurrentConfig config = layers_of(cell, Precision::bfloat16);
  config.num_layers = 1;
  Recurrent layer(config);
  config.precision = Precision::same_as_dtype;
  Recurrent plain(config);
  const auto* from = static_cast<const float*>(layer.parameters());
  auto* to = static_cast<float*>(plain.parameters());
  for (const TensorInfo& tensor : layer.tensors()) {
    const bool matrix = tensor.name[0] == 'W' || tensor.name[0] == 'R';
    for (std::int64_t i = tensor.offset; i < tensor.offset + tensor.count(); ++i)
      to[i] = matrix ? rounded(from[i]) : from[i];
  }
  std::vector<float> x = input(1);
  std::vector<float> y(21), expected(21);
  const std::int64_t one = 1;
  const auto run = [&](const Recurrent& of, std::vector<float>& out) {
    const void* data = x.data();
    void* result = out.data();
    of.forward({&data, &one, 1, kInputs}, nullptr, &result, nullptr);
  };
  run(layer, y);
  run(plain, expected);
  CHECK(y != expected);
  for (float& value : x) value = rounded(value);
  run(plain, expected);
  CHECK(y == expected);
}

void test_model(const std::string& cell) {
  const Model plain(config_of(cell, Precision::same_as_dtype));
  const Model model(config_of(cell, Precision::bfloat16));
  CHECK(std::memcmp(model.parameters(), plain.parameters(),
                    static_cast<std::size_t>(plain.parameter_count()) * sizeof(float)) == 0);
  const std::vector<float> x = input(12);
  const std::vector<float> expected = predict(model, x, 12);
  const std::vector<float> exact = predict(plain, x, 12);
  for (std::size_t k = 0; k < 4; ++k) CHECK_NEAR(expected[k], exact[k], 1e-2);
  CHECK(expected != exact);
  CHECK(predict(model, x, 12, 3) == expected);

  const std::string path = "test_bfloat16_" + cell + ".safetensors";
  model.save(path);
  const Model loaded = Model::load(path);
  std::remove(path.c_str());
  CHECK(loaded.config().recurrent.precision == Precision::bfloat16);
  CHECK(predict(loaded, x, 12) == expected);
  StreamState state = loaded.make_state();
  std::vector<float> out(4);
  for (std::int64_t t = 0; t < 12; ++t) loaded.step(x.data() + kInputs * t, state, out.data());
  CHECK(out == expected);
}

/// Of the sequences with the larger first number class 1, and weights after training on 1 and on 3 threads alike.
void test_training() {
  constexpr std::int64_t kCount = 24;
  std::vector<std::vector<float>> sequences;
  std::vector<const void*> data;
  std::vector<std::int64_t> lengths;
  std::vector<std::int32_t> labels;
  for (std::int64_t n = 0; n < kCount; ++n) {
    sequences.push_back(input(6 + n % 3));
    sequences.back()[0] = n % 2 == 0 ? -1.0F : 1.0F;
    lengths.push_back(6 + n % 3);
    labels.push_back(static_cast<std::int32_t>(n % 2));
  }
  for (const auto& sequence : sequences) data.push_back(sequence.data());
  std::vector<std::vector<float>> weights;
  for (const int n_threads : {1, 3}) {
    ModelConfig config = config_of("lstm", Precision::bfloat16);
    config.outputs = 2;
    Model model(config);
    TrainerConfig options;
    options.loss = Loss::cross_entropy;
    options.epochs = 30;
    options.learning_rate = 0.01;
    options.n_threads = n_threads;
    Trainer trainer(model, options);
    const Sequences x{data.data(), lengths.data(), kCount, kInputs};
    Targets targets;
    targets.labels = labels.data();
    const double before = trainer.evaluate(x, targets);
    for (int epoch = 0; epoch < options.epochs; ++epoch) trainer.run_epoch(x, targets);
    CHECK(trainer.evaluate(x, targets) < 0.2 * before);
    const auto* from = static_cast<const float*>(model.parameters());
    weights.emplace_back(from, from + model.parameter_count());
    bool any = false;  // the weights that are trained are not rounded
    for (float value : weights.back()) any = any || rounded(value) != value;
    CHECK(any);
  }
  CHECK(weights[0] == weights[1]);
}

}  // namespace

int main() {
  for (const char* cell : {"lstm", "gru", "peephole", "slstm", "elman", "min_lstm", "indrnn"}) {
    test_first_step(cell);
    test_model(cell);
  }
  test_training();
  RecurrentConfig config = layers_of("lstm", Precision::bfloat16);
  config.dtype = Dtype::float64;
  CHECK_THROWS_WITH(Recurrent(config), std::invalid_argument, "expected dtype float32, got float64");
  config = layers_of("xlstm", Precision::bfloat16);
  CHECK_THROWS_WITH(Recurrent(config), std::invalid_argument, "cell 'xlstm'");
  config = layers_of("peephole", Precision::bfloat16);
  config.cell_options["variant"] = std::string("FGR");
  CHECK_THROWS_WITH(Recurrent(config), std::invalid_argument, "whose gates feed back");
  config = layers_of("lstm1997", Precision::bfloat16);
  config.cell_options["gate_recurrence"] = true;
  CHECK_THROWS_WITH(Recurrent(config), std::invalid_argument, "whose gates feed back");
  ModelConfig model = config_of("lstm", Precision::bfloat16);
  model.quantization = Quantization::dynamic_int8;
  CHECK_THROWS_WITH(Model(model), std::invalid_argument, "takes the place of precision bfloat16");
  return check::result();
}
