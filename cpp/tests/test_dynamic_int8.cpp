// Quantised models through the public API: rounding, prediction, streams, files, and what is refused.
#include "check.hpp"

#include <lstmcore/trainer.hpp>

#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

using namespace lstmcore;

namespace {

ModelConfig config_of(const std::string& cell, bool bidirectional, Quantization quantization) {
  ModelConfig config;
  config.recurrent.cell = cell;
  config.recurrent.input_size = 5;
  config.recurrent.hidden_size = 21;
  config.recurrent.num_layers = 2;
  config.recurrent.bidirectional = bidirectional;
  config.recurrent.seed = 3;
  config.outputs = 4;
  config.activation = Activation::softmax;
  config.quantization = quantization;
  return config;
}

std::vector<float> predict(const Model& model, const std::vector<float>& x, std::int64_t steps, int n_threads = 1) {
  std::vector<float> out(4);
  const void* data = x.data();
  model.predict({&data, &steps, 1, 5}, out.data(), n_threads);
  return out;
}

std::vector<float> input(std::int64_t steps) {
  std::vector<float> x;
  for (std::int64_t i = 0; i < steps * 5; ++i) x.push_back(static_cast<float>((i * 37) % 19 - 9) / 4.0F);
  return x;
}

void test_model(const std::string& cell, bool bidirectional) {
  const Model plain(config_of(cell, bidirectional, Quantization::none));
  Model model(config_of(cell, bidirectional, Quantization::dynamic_int8));
  std::memcpy(model.parameters(), plain.parameters(),
              static_cast<std::size_t>(plain.parameter_count()) * sizeof(float));
  model.parameters_changed();
  for (const TensorInfo& tensor : model.tensors()) {
    const float* const rounded = static_cast<const float*>(model.parameters()) + tensor.offset;
    const float* const exact = static_cast<const float*>(plain.parameters()) + tensor.offset;
    if (!in_int8(model.config(), tensor.name)) {
      CHECK(std::memcmp(rounded, exact, static_cast<std::size_t>(tensor.count()) * sizeof(float)) == 0);
      CHECK_THROWS_WITH(model.int8_matrix(tensor.name), std::invalid_argument, "got '" + tensor.name + "'");
      continue;
    }
    const Int8Matrix matrix = model.int8_matrix(tensor.name);
    const std::int64_t columns = tensor.shape[1];
    for (std::int64_t i = 0; i < tensor.count(); ++i) {
      const float scale = matrix.scales[static_cast<std::size_t>(i / columns)];
      CHECK_EQ(rounded[i], scale * static_cast<float>(matrix.integers[static_cast<std::size_t>(i)]));
      CHECK(std::abs(rounded[i] - exact[i]) <= 0.5001F * scale);
    }
  }
  CHECK(!in_int8(plain.config(), "W_l0"));
  CHECK_THROWS(plain.int8_matrix("W_l0"), std::invalid_argument);

  const std::vector<float> x = input(12);
  const std::vector<float> expected = predict(model, x, 12);
  const std::vector<float> exact = predict(plain, x, 12);
  for (std::size_t k = 0; k < 4; ++k) CHECK_NEAR(expected[k], exact[k], 2e-2);
  CHECK(expected != exact);
  CHECK(predict(model, x, 12, 3) == expected);

  const std::string path = "test_dynamic_int8_" + cell + ".safetensors";
  model.save(path);
  const Model loaded = Model::load(path);
  std::remove(path.c_str());
  CHECK(loaded.config().quantization == Quantization::dynamic_int8);
  CHECK(predict(loaded, x, 12) == expected);
  if (bidirectional) return;
  StreamState state = loaded.make_state();
  std::vector<float> out(4);
  for (std::int64_t t = 0; t < 12; ++t) loaded.step(x.data() + 5 * t, state, out.data());
  CHECK(out == expected);
}

}  // namespace

int main() {
  for (const char* cell : {"lstm", "gru", "peephole", "slstm", "elman"}) {
    test_model(cell, false);
    test_model(cell, true);
  }
  ModelConfig config = config_of("lstm", false, Quantization::dynamic_int8);
  Model model(config);
  TrainerConfig trainer;
  trainer.loss = Loss::cross_entropy;
  CHECK_THROWS_WITH(Trainer(model, trainer), std::invalid_argument, "for prediction only");
  config.recurrent.dtype = Dtype::float64;
  CHECK_THROWS_WITH(Model(config), std::invalid_argument, "computes in float32");
  config = config_of("min_lstm", false, Quantization::dynamic_int8);
  CHECK_THROWS_WITH(Model(config), std::invalid_argument, "got 'min_lstm'");
  return check::result();
}
