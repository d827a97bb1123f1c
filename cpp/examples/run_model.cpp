// Loads a model file, predicts a whole sequence, then the same sequence step by step.
//
//   run_model model.safetensors      (a float32 model trained with bidirectional=False)
#include <lstmcore/lstmcore.hpp>

#include <cstdio>
#include <exception>
#include <vector>

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: run_model MODEL\n");
    return 2;
  }
  try {
    const lstmcore::Model model = lstmcore::Model::load(argv[1]);
    const lstmcore::ModelConfig& config = model.config();
    if (config.recurrent.dtype != lstmcore::Dtype::float32)
      throw std::runtime_error("this example reads float32 models");

    // A sequence of 20 steps, row-major: x[t · features + i].
    const std::int64_t steps = 20;
    const std::int64_t features = config.recurrent.input_size;
    std::vector<float> x(static_cast<std::size_t>(steps * features));
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = 0.01F * static_cast<float>(i % 100);

    // All at once; a batch of one.
    const void* data[] = {x.data()};
    std::vector<float> whole(static_cast<std::size_t>(config.outputs));
    model.predict({data, &steps, 1, features}, whole.data());

    // Step by step: after make_state() nothing allocates, locks or throws.
    std::vector<float> streamed(whole.size());
    if (!config.recurrent.bidirectional) {
      lstmcore::StreamState state = model.make_state();
      for (std::int64_t t = 0; t < steps; ++t) model.step(x.data() + t * features, state, streamed.data());
    }
    for (std::size_t k = 0; k < whole.size(); ++k) {
      std::printf("output %zu: whole %.6f, streamed %.6f\n", k, static_cast<double>(whole[k]),
                  static_cast<double>(streamed[k]));
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "run_model: %s\n", error.what());
    return 1;
  }
  return 0;
}
