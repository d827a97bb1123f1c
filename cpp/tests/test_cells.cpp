// Every cell and option on this engine: any number of threads gives the same bits, steps equal whole sequences, and the
// gradient of all weights, inputs and initial states is that of the loss along a random direction.
#include "check.hpp"

#include <lstmcore/lstmcore.hpp>

#include <cstring>
#include <random>
#include <vector>

namespace {

using namespace lstmcore;

struct Setting {
  std::string cell;
  Options options;
  bool differentiable = true;
};

std::vector<Setting> settings() {
  using std::string_literals::operator""s;
  const auto integer = [](std::int64_t value) { return Option(value); };
  std::vector<Setting> all = {
      {"elman", {}},
      {"elman", {{"nonlinearity", "relu"s}}},
      {"elman", {{"layer_norm", true}}},
      {"lstm1997", {}},
      {"lstm1997", {{"block_size", integer(3)}, {"gate_recurrence", true}}},
      {"lstm1997", {{"block_size", integer(3)}, {"gradient", "truncated"s}}, false},
      {"lstm", {{"proj_size", integer(5)}}},
      {"lstm", {{"layer_norm", true}}},
      {"peephole", {}},
      {"peephole", {{"layer_norm", true}, {"proj_size", integer(5)}}},
      {"gru", {}},
      {"gru", {{"reset_after", false}}},
      {"gru", {{"layer_norm", true}}},
      {"slstm", {}},
      {"slstm", {{"heads", integer(3)}, {"forget_activation", "exponential"s}}},
      {"mlstm", {}},
      {"mlstm", {{"heads", integer(3)}, {"chunk_size", integer(1)}}},
      {"mlstm", {{"heads", integer(7)}, {"chunk_size", integer(5)}, {"forget_activation", "exponential"s}}},
      {"xlstm", {{"heads", integer(3)}}},
      {"xlstm", {{"blocks", "smm"s}, {"heads", integer(7)}, {"chunk_size", integer(4)}}},
      {"min_lstm", {}},
      {"min_gru", {}},
      {"indrnn", {}},
      {"indrnn", {{"nonlinearity", "tanh"s}}},
  };
  for (const char* variant : {"vanilla", "NIG", "NFG", "NOG", "NIAF", "NOAF", "CIFG", "FGR"}) {
    all.push_back({"lstm", {{"variant", std::string(variant)}}});
    all.push_back({"peephole", {{"variant", std::string(variant)}}});
  }
  return all;
}

/// Whether a cell goes step by step; otherwise its dropout is the only regulariser, and steps equal passes to rounding.
bool stepwise(const std::string& name) {
  for (const CellInfo& cell : cells()) {
    if (cell.name == name) return cell.stepwise;
  }
  return false;
}

RecurrentConfig config_of(const Setting& setting, Dtype dtype, bool bidirectional, bool regularised, int n_threads) {
  RecurrentConfig config;
  config.cell = setting.cell;
  config.cell_options = setting.options;
  config.input_size = 4;
  config.hidden_size = 21;
  config.num_layers = 2;
  config.bidirectional = bidirectional;
  config.dtype = dtype;
  config.seed = 7;
  config.n_threads = n_threads;
  if (regularised) {
    config.dropout = 0.2;
    if (!stepwise(setting.cell)) return config;
    config.variational_dropout = 0.1;
    config.zoneout_hidden = 0.1;
    config.learn_initial_state = true;
    for (const CellInfo& cell : cells()) {
      if (cell.name == setting.cell && cell.states.size() > 1) config.zoneout_cell = 0.1;
    }
    if (setting.cell != "elman" && setting.cell != "indrnn") config.recurrent_dropout = 0.1;
  }
  return config;
}

template <class T>
struct Run {
  std::vector<std::vector<T>> x, y, dy, dx;
  std::vector<const void*> x_data, dy_data;
  std::vector<void*> y_data, dx_data;
  std::vector<std::int64_t> lengths;
  std::vector<T> gradient;

  Run(const Recurrent& layer, std::int64_t count, std::int64_t longest) {
    std::mt19937 random(3);
    std::normal_distribution<T> normal;
    const auto fill = [&](std::int64_t size) {
      std::vector<T> values(static_cast<std::size_t>(size));
      for (T& value : values) value = normal(random);
      return values;
    };
    for (std::int64_t n = 0; n < count; ++n) {
      const std::int64_t length =
          n == 0 ? longest : 1 + static_cast<std::int64_t>(random() % static_cast<unsigned>(longest));
      lengths.push_back(length);
      x.push_back(fill(length * layer.config().input_size));
      dy.push_back(fill(length * layer.output_width()));
      y.emplace_back(dy.back().size());
      dx.emplace_back(x.back().size());
    }
    for (std::size_t n = 0; n < x.size(); ++n) {
      x_data.push_back(x[n].data());
      y_data.push_back(y[n].data());
      dy_data.push_back(dy[n].data());
      dx_data.push_back(dx[n].data());
    }
    gradient.resize(static_cast<std::size_t>(layer.parameter_count()));
  }

  Sequences view(const Recurrent& layer) const {
    return {x_data.data(), lengths.data(), static_cast<std::int64_t>(x.size()), layer.config().input_size};
  }

  void forward_backward(const Recurrent& layer) {
    Tape tape;
    layer.forward(view(layer), nullptr, y_data.data(), nullptr, &tape);
    layer.backward(tape, dy_data.data(), nullptr, dx_data.data(), nullptr, gradient.data());
  }

  double loss() const {
    double sum = 0;
    for (std::size_t n = 0; n < y.size(); ++n) {
      for (std::size_t k = 0; k < y[n].size(); ++k) sum += static_cast<double>(y[n][k]) * static_cast<double>(dy[n][k]);
    }
    return sum;
  }
};

/// So many sequences that threads share them, and so few that they share units.
template <class T>
void threads_do_not_matter(const Setting& setting, Dtype dtype, bool regularised) {
  for (const std::int64_t count : {std::int64_t{2}, std::int64_t{30}}) {
    const Recurrent alone(config_of(setting, dtype, true, regularised, 1));
    Run<T> expected(alone, count, count == 2 ? 60 : 9);
    expected.forward_backward(alone);
    for (const int n_threads : {2, 3}) {
      const Recurrent layer(config_of(setting, dtype, true, regularised, n_threads));
      Run<T> run(layer, count, count == 2 ? 60 : 9);
      run.forward_backward(layer);
      CHECK(run.y == expected.y);
      CHECK(run.dx == expected.dx);
      CHECK(run.gradient == expected.gradient);
    }
  }
}

void steps_equal_sequences(const Setting& setting) {
  RecurrentConfig config = config_of(setting, Dtype::float64, false, false, 1);
  if (stepwise(setting.cell)) {
    config.zoneout_hidden = 0.2;  // its expectation is part of every step
    config.learn_initial_state = true;
  }
  const Recurrent layer(config);
  Run<double> run(layer, 1, 12);
  layer.forward(run.view(layer), nullptr, run.y_data.data(), nullptr);
  std::vector<std::vector<double>> state;
  std::vector<void*> pointers;
  for (std::size_t s = 0; s < layer.states().size(); ++s) {
    state.emplace_back(static_cast<std::size_t>(layer.layers() * layer.state_width(s)));
  }
  // The learned initial state is zero before training.
  for (auto& values : state) pointers.push_back(values.data());
  std::vector<double> y(static_cast<std::size_t>(layer.output_width()));
  for (std::int64_t t = 0; t < run.lengths[0]; ++t) {
    layer.step(run.x[0].data() + t * config.input_size, 1, pointers.data(), y.data());
    const double* const expected = run.y[0].data() + t * layer.output_width();
    if (stepwise(setting.cell)) {
      CHECK(std::memcmp(y.data(), expected, y.size() * sizeof(double)) == 0);
    } else {
      for (std::size_t k = 0; k < y.size(); ++k) CHECK_NEAR(y[k], expected[k], 1e-12);
    }
  }
}

void gradient_is_that_of_the_loss(const Setting& setting, bool regularised) {
  const RecurrentConfig config = config_of(setting, Dtype::float64, true, regularised, 2);
  // Weights away from where they start, so that biases, peepholes and initial states are not zero. sLSTM divides by n,
  // which a learned initial state sets.
  const auto build = [&](double step, const std::vector<double>& direction) {
    Recurrent layer(config);
    auto* weights = static_cast<double*>(layer.parameters());
    std::mt19937 random(5);
    std::uniform_real_distribution<double> uniform(-0.2, 0.2);
    for (const TensorInfo& tensor : layer.tensors()) {
      for (std::int64_t k = tensor.offset; k < tensor.offset + tensor.count(); ++k) {
        weights[k] += uniform(random);
        if (tensor.name.rfind("n0", 0) == 0) weights[k] += 1.5;
        if (!direction.empty()) weights[k] += step * direction[static_cast<std::size_t>(k)];
      }
    }
    return layer;
  };
  const Recurrent layer = build(0, {});
  Run<double> run(layer, 5, 8);
  run.forward_backward(layer);
  std::mt19937 random(11);
  std::normal_distribution<double> normal;
  std::vector<double> direction(run.gradient.size());
  for (double& value : direction) value = normal(random);
  const double epsilon = 1e-6;
  std::vector<double> losses;
  for (const double sign : {1.0, -1.0}) {
    const Recurrent moved = build(sign * epsilon, direction);
    Run<double> other(moved, 5, 8);
    for (std::size_t n = 0; n < other.x.size(); ++n) {
      for (std::size_t k = 0; k < other.x[n].size(); ++k) other.x[n][k] += sign * epsilon * (n % 2 == 0 ? 1.0 : -0.5);
    }
    other.forward_backward(moved);  // draws the masks that the first pass of `layer` drew
    losses.push_back(other.loss());
  }
  double slope = 0;
  double size = 1;
  for (std::size_t k = 0; k < direction.size(); ++k) {
    slope += run.gradient[k] * direction[k];
    size += std::abs(run.gradient[k] * direction[k]);
  }
  for (std::size_t n = 0; n < run.dx.size(); ++n) {
    for (const double d : run.dx[n]) slope += d * (n % 2 == 0 ? 1.0 : -0.5);
  }
  CHECK_NEAR((losses[0] - losses[1]) / (2 * epsilon) / size, slope / size, 1e-7);
}

void options_are_checked() {
  const auto refused = [](const char* cell, const Options& options, const std::string& part) {
    RecurrentConfig config;
    config.cell = cell;
    config.cell_options = options;
    config.input_size = 2;
    config.hidden_size = 6;
    CHECK_THROWS_WITH(Recurrent{config}, std::invalid_argument, part);
  };
  using std::string_literals::operator""s;
  refused("lstm", {{"proj_size", Option(std::int64_t{6})}},
          "proj_size of cell 'lstm': expected less than hidden_size=6");
  refused("lstm", {{"proj_size", Option(std::int64_t{-1})}}, "an integer of at least 0, got -1");
  refused("lstm", {{"layer_norm", Option(std::int64_t{1})}},
          "layer_norm of cell 'lstm': expected one of false, true, got 1");
  refused("lstm", {{"layer_norm", true}, {"variant", "CIFG"s}}, "works with variant='vanilla', got variant='CIFG'");
  refused("lstm", {{"variant", "NP"s}}, "got 'NP'");
  refused("gru", {{"layer_norm", true}, {"reset_after", false}}, "works with reset_after=true");
  refused("slstm", {{"heads", Option(std::int64_t{4})}}, "expected a divisor of hidden_size=6, got 4");
  refused("lstm1997", {{"block_size", Option(std::int64_t{5})}}, "expected a divisor of hidden_size=6, got 5");
  refused("xlstm", {{"blocks", "mx"s}},
          "blocks of cell 'xlstm': expected a text of 1 to 64 of the letters ms, got 'mx'");
  refused("mlstm", {{"heads", Option(std::int64_t{4})}}, "expected a divisor of hidden_size=6, got 4");
  refused("gru", {{"heads", Option(std::int64_t{2})}}, "has no option 'heads'");
}

}  // namespace

int main() {
  for (const Setting& setting : settings()) {
    threads_do_not_matter<float>(setting, Dtype::float32, false);
    threads_do_not_matter<double>(setting, Dtype::float64, true);
    steps_equal_sequences(setting);
    if (setting.differentiable) {
      gradient_is_that_of_the_loss(setting, false);
      gradient_is_that_of_the_loss(setting, true);
    }
  }
  options_are_checked();
  return check::result();
}
