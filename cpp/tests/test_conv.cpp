// Convolutional layers on this engine: any number of threads gives the same bits, steps equal whole sequences, and the
// gradient of all weights, inputs and initial states is that of the loss along a random direction.
#include "check.hpp"

#include <lstmcore/lstmcore.hpp>

#include <cstring>
#include <random>
#include <vector>

namespace {

using namespace lstmcore;

struct Setting {
  const char* cell;
  std::int64_t height, width, kernel, dilation;
};

// Windows in place, tiles of 4 × 4 (3 × 3 from 8 × 8 pixels on), and a window wider than the image.
constexpr Setting kSettings[] = {
    {"lstm", 9, 10, 3, 1}, {"peephole", 9, 10, 3, 1}, {"gru", 9, 10, 3, 1}, {"lstm", 5, 7, 3, 2},
    {"gru", 5, 7, 5, 1},   {"peephole", 3, 2, 9, 1},  {"lstm", 1, 1, 1, 1}, {"gru", 8, 21, 3, 1},
};

ConvConfig config_of(const Setting& setting, Dtype dtype, int n_threads) {
  ConvConfig config;
  config.cell = setting.cell;
  config.channels = 3;
  config.hidden_channels = 9;
  config.height = setting.height;
  config.width = setting.width;
  config.kernel_size = setting.kernel;
  config.dilation = setting.dilation;
  config.num_layers = 2;
  config.dtype = dtype;
  config.n_threads = n_threads;
  return config;
}

template <class T>
struct Data {
  std::vector<std::int64_t> lengths{3, 5, 1};
  std::vector<std::vector<T>> x, dy;
  std::vector<std::vector<T>> state, d_final;

  explicit Data(const ConvRecurrent& layer) {
    std::mt19937 random(5);
    std::uniform_real_distribution<double> uniform(-1, 1);
    const auto fill = [&](std::int64_t count) {
      std::vector<T> values(static_cast<std::size_t>(count));
      for (T& value : values) value = static_cast<T>(uniform(random));
      return values;
    };
    for (const std::int64_t length : lengths) {
      x.push_back(fill(length * layer.input_size()));
      dy.push_back(fill(length * layer.output_size()));
    }
    const std::int64_t size = layer.config().num_layers * 3 * layer.output_size();
    for (std::size_t s = 0; s < layer.states().size(); ++s) {
      state.push_back(fill(size));
      d_final.push_back(fill(size));
    }
  }
};

template <class T>
std::vector<const void*> inputs(const std::vector<std::vector<T>>& arrays) {
  std::vector<const void*> pointers;
  for (const std::vector<T>& array : arrays) pointers.push_back(array.data());
  return pointers;
}
template <class T>
std::vector<void*> outputs(std::vector<std::vector<T>>& arrays) {
  std::vector<void*> pointers;
  for (std::vector<T>& array : arrays) pointers.push_back(array.data());
  return pointers;
}

template <class T>
struct Results {
  std::vector<std::vector<T>> y, final_state, dx, d_initial;
  std::vector<T> gradient;

  Results(const ConvRecurrent& layer, const Data<T>& data)
      : y(data.dy),
        final_state(data.state),
        dx(data.x),
        d_initial(data.state),
        gradient(static_cast<std::size_t>(layer.parameter_count())) {
    const auto x = inputs(data.x);
    const auto dy = inputs(data.dy);
    const auto state = inputs(data.state);
    const auto d_final = inputs(data.d_final);
    Tape tape;
    const Sequences sequences{x.data(), data.lengths.data(), 3, layer.input_size()};
    layer.forward(sequences, state.data(), outputs(y).data(), outputs(final_state).data(), &tape);
    layer.backward(tape, dy.data(), d_final.data(), outputs(dx).data(), outputs(d_initial).data(), gradient.data());
  }

  bool operator==(const Results& other) const {
    return y == other.y && final_state == other.final_state && dx == other.dx && d_initial == other.d_initial &&
           gradient == other.gradient;
  }
};

template <class T>
void check_threads(const Setting& setting, Dtype dtype) {
  const ConvRecurrent one(config_of(setting, dtype, 1));
  const Data<T> data(one);
  const Results<T> expected(one, data);
  for (const int threads : {2, 3}) {
    const ConvRecurrent several(config_of(setting, dtype, threads));
    CHECK(Results<T>(several, data) == expected);
  }
}

void check_steps(const Setting& setting) {
  const ConvRecurrent layer(config_of(setting, Dtype::float32, 2));
  const Data<float> data(layer);
  const Results<float> whole(layer, data);
  // The second sequence alone: it is the longest.
  const auto in = static_cast<std::size_t>(layer.input_size());
  const auto out = static_cast<std::size_t>(layer.output_size());
  std::vector<std::vector<float>> state(layer.states().size());
  for (std::size_t s = 0; s < state.size(); ++s) {
    for (std::size_t l = 0; l < 2; ++l) {
      const float* from = data.state[s].data() + (l * 3 + 1) * out;
      state[s].insert(state[s].end(), from, from + out);
    }
  }
  std::vector<float> y(out);
  bool same = true;
  for (std::size_t t = 0; t < 5; ++t) {
    layer.step(data.x[1].data() + t * in, 1, outputs(state).data(), y.data());
    same = same && std::memcmp(y.data(), whole.y[1].data() + t * out, out * sizeof(float)) == 0;
  }
  CHECK(same);
}

double loss(const ConvRecurrent& layer, const Data<double>& data) {
  const auto x = inputs(data.x);
  const auto state = inputs(data.state);
  std::vector<std::vector<double>> y = data.dy, final_state = data.state;
  layer.forward({x.data(), data.lengths.data(), 3, layer.input_size()}, state.data(), outputs(y).data(),
                outputs(final_state).data());
  double sum = 0;
  const auto add = [&sum](const std::vector<std::vector<double>>& a, const std::vector<std::vector<double>>& b) {
    for (std::size_t i = 0; i < a.size(); ++i) {
      for (std::size_t k = 0; k < a[i].size(); ++k) sum += a[i][k] * b[i][k];
    }
  };
  add(y, data.dy);
  add(final_state, data.d_final);
  return sum;
}

void check_gradient(const Setting& setting) {
  ConvRecurrent layer(config_of(setting, Dtype::float64, 2));
  Data<double> data(layer);
  const Results<double> results(layer, data);
  std::mt19937 random(6);
  std::uniform_real_distribution<double> uniform(-1, 1);
  // Everything that the loss depends on moves along one direction.
  std::vector<double*> values;
  std::vector<double> direction;
  double expected = 0;
  const auto move = [&](double* first, const std::vector<double>& gradient) {
    for (std::size_t k = 0; k < gradient.size(); ++k) {
      values.push_back(first + k);
      direction.push_back(uniform(random));
      expected += direction.back() * gradient[k];
    }
  };
  move(static_cast<double*>(layer.parameters()), results.gradient);
  for (std::size_t n = 0; n < data.x.size(); ++n) move(data.x[n].data(), results.dx[n]);
  for (std::size_t s = 0; s < data.state.size(); ++s) move(data.state[s].data(), results.d_initial[s]);
  std::vector<double> start;
  for (const double* value : values) start.push_back(*value);
  const auto at = [&](double distance) {
    for (std::size_t k = 0; k < values.size(); ++k) *values[k] = start[k] + distance * direction[k];
    return loss(layer, data);
  };
  const auto slope = [&](double h) { return (at(h) - at(-h)) / (2 * h); };
  constexpr double kStep = 2e-5;
  CHECK_NEAR((4 * slope(kStep) - slope(2 * kStep)) / 3, expected, 1e-6);
}

template <class F>
void check_refused(const char* part, F&& f) {
  try {
    f();
    CHECK(false);
  } catch (const std::invalid_argument& error) {
    CHECK(std::string(error.what()).find(part) != std::string::npos);
  }
}

void check_errors() {
  const auto with = [](auto&& change) {
    ConvConfig config = config_of(kSettings[0], Dtype::float32, 1);
    change(config);
    const ConvRecurrent layer(config);
  };
  check_refused("cell", [&] { with([](ConvConfig& c) { c.cell = "elman"; }); });
  check_refused("kernel_size", [&] { with([](ConvConfig& c) { c.kernel_size = 2; }); });
  check_refused("dilation", [&] { with([](ConvConfig& c) { c.dilation = 0; }); });
  check_refused("height", [&] { with([](ConvConfig& c) { c.height = -3; }); });
  const ConvRecurrent layer(config_of(kSettings[0], Dtype::float32, 1));
  const ConvRecurrent other(config_of(kSettings[0], Dtype::float32, 1));
  const Data<float> data(layer);
  const auto x = inputs(data.x);
  Tape tape;
  check_refused("features", [&] { layer.forward({x.data(), data.lengths.data(), 3, 7}, nullptr, nullptr, nullptr); });
  std::vector<float> gradient(static_cast<std::size_t>(layer.parameter_count()));
  const auto backward = [&](const ConvRecurrent& by, void* to) {
    by.backward(tape, nullptr, nullptr, nullptr, nullptr, to);
  };
  check_refused("tape", [&] { backward(layer, gradient.data()); });
  layer.forward({x.data(), data.lengths.data(), 3, layer.input_size()}, nullptr, nullptr, nullptr, &tape);
  check_refused("tape", [&] { backward(other, gradient.data()); });
  check_refused("gradient", [&] { backward(layer, nullptr); });
  backward(layer, gradient.data());
  check_refused("tape", [&] { backward(layer, gradient.data()); });
}

}  // namespace

int main() {
  for (const Setting& setting : kSettings) {
    check_threads<float>(setting, Dtype::float32);
    check_threads<double>(setting, Dtype::float64);
    check_steps(setting);
    check_gradient(setting);
  }
  check_errors();
  return check::result();
}
