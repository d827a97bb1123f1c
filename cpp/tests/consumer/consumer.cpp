// Runs a small bidirectional LSTM on two sequences of different lengths and checks shapes, padding-free output and
// range.
#include <lstmcore/lstmcore.hpp>

#include <cmath>
#include <cstdio>

// What an engine is compiled with must not have reached this program.
#ifdef _OPENMP
#error "lstmcore leaks OpenMP flags to its consumers"
#endif
#ifdef __AVX__
#error "lstmcore leaks instruction-set flags to its consumers"
#endif

int main() {
  const lstmcore::BuildInfo info = lstmcore::build_info();
  std::printf("lstmcore %s, engine %s\n", info.version.c_str(), info.isa.c_str());

  lstmcore::RecurrentConfig config;
  config.input_size = 3;
  config.hidden_size = 4;
  config.bidirectional = true;
  config.seed = 1;
  const lstmcore::Recurrent network(config);

  const std::vector<float> first(5 * 3, 0.5F), second(2 * 3, -1.0F);
  const void* data[] = {first.data(), second.data()};
  const std::int64_t lengths[] = {5, 2};
  lstmcore::Sequences sequences;
  sequences.data = data;
  sequences.lengths = lengths;
  sequences.count = 2;
  sequences.features = 3;

  const float untouched = 123.0F;
  std::vector<float> y_first(5 * 8 + 1, untouched), y_second(2 * 8 + 1, untouched);
  void* outputs[] = {y_first.data(), y_second.data()};
  network.forward(sequences, nullptr, outputs, nullptr);

  for (const std::vector<float>* y : {&y_first, &y_second}) {
    if (y->back() != untouched) return 1;
    bool any = false;
    for (std::size_t k = 0; k + 1 < y->size(); ++k) {
      if (!(std::abs((*y)[k]) < 1.0F)) return 2;  // h = o · tanh(c)
      any = any || (*y)[k] != 0.0F;
    }
    if (!any) return 3;
  }
  try {
    config.hidden_size = 0;
    const lstmcore::Recurrent refused(config);
    return 4;
  } catch (const std::invalid_argument& error) {
    std::printf("refused as it should be: %s\n", error.what());
  }
  return 0;
}
