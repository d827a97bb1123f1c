// One step of one stream from C++, as an audio callback takes it: Model::step of one layer and a dense output.
//
//     step SECONDS [CELL:IxH[:bfloat16] …]          for example: step 0.2 lstm:1x32 gru:16x64 gru:16x64:bfloat16
//
// Prints a JSON list of {"cell", "I", "H", "precision", "us"}: microseconds, the median of many turns, the networks
// taking turns.
#include <lstmcore/lstmcore.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <memory>
#include <string>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

struct Network {
  std::string cell;
  std::unique_ptr<lstmcore::Model> model;
  std::unique_ptr<lstmcore::StreamState> state;
  std::vector<float> x;
  std::vector<double> times;  // microseconds
};

Network make(const std::string& text) {
  char cell[32] = {};
  long long inputs = 0, hidden = 0;
  int end = 0;
  const int fields = std::sscanf(text.c_str(), "%31[^:]:%lldx%lld%n", cell, &inputs, &hidden, &end);
  const std::string precision = fields == 3 ? text.substr(static_cast<std::size_t>(end)) : "?";
  if (!precision.empty() && precision != ":bfloat16") {
    throw std::invalid_argument("expected CELL:IxH or CELL:IxH:bfloat16, for example lstm:16x64; got " + text);
  }
  lstmcore::ModelConfig config;
  config.recurrent.cell = cell;
  config.recurrent.input_size = inputs;
  config.recurrent.hidden_size = hidden;
  config.recurrent.seed = 1;
  config.recurrent.n_threads = 1;
  if (!precision.empty()) config.recurrent.precision = lstmcore::Precision::bfloat16;
  Network network;
  network.cell = cell;
  network.model = std::make_unique<lstmcore::Model>(config);
  network.state = std::make_unique<lstmcore::StreamState>(network.model->make_state());
  network.x.assign(static_cast<std::size_t>(inputs), 0.5F);
  return network;
}

/// One turn of about half a millisecond.
void run(Network& network, int steps) {
  const auto begin = Clock::now();
  float y = 0.0F;
  for (int k = 0; k < steps; ++k) network.model->step(network.x.data(), *network.state, &y);
  network.times.push_back(std::chrono::duration<double, std::micro>(Clock::now() - begin).count() / steps);
}

}  // namespace

int main(int argc, char** argv) try {
  const double seconds = argc > 1 ? std::atof(argv[1]) : 0.2;
  std::vector<std::string> names(argv + std::min(argc, 2), argv + argc);
  if (names.empty()) {
    names = {"lstm:1x8",    "lstm:1x16",    "lstm:1x32", "lstm:1x64",  "lstm:16x64",
             "lstm:64x128", "lstm:128x256", "gru:16x64", "gru:128x256"};
  }
  std::vector<Network> networks;
  std::vector<int> steps;
  for (const std::string& name : names) {
    networks.push_back(make(name));
    run(networks.back(), 100);  // warm
    networks.back().times.clear();
    run(networks.back(), 100);
    steps.push_back(std::max(1, static_cast<int>(500.0 / networks.back().times.back())));
    networks.back().times.clear();
  }
  const auto begin = Clock::now();
  do {
    for (std::size_t k = 0; k < networks.size(); ++k) run(networks[k], steps[k]);
  } while (std::chrono::duration<double>(Clock::now() - begin).count() <
           seconds * static_cast<double>(networks.size()));
  std::printf("[");
  for (std::size_t k = 0; k < networks.size(); ++k) {
    Network& network = networks[k];
    const auto middle = network.times.begin() + static_cast<std::ptrdiff_t>(network.times.size() / 2);
    std::nth_element(network.times.begin(), middle, network.times.end());
    const lstmcore::RecurrentConfig& config = network.model->config().recurrent;
    std::printf("%s{\"cell\": \"%s\", \"I\": %lld, \"H\": %lld, \"precision\": \"%s\", \"us\": %.4g}",
                k == 0 ? "" : ",\n ", network.cell.c_str(), static_cast<long long>(config.input_size),
                static_cast<long long>(config.hidden_size),
                config.precision == lstmcore::Precision::bfloat16 ? "bfloat16" : "float32", *middle);
  }
  std::printf("]\n");
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "step: %s\n", error.what());
  return 2;
}
