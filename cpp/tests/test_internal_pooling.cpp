// Pooling and head by themselves: against finite differences of every input and tensor, in memory that ends where it
// should, for any number of threads; SELU against the C library.
#include "base/rng.hpp"
#include "check.hpp"
#include "model/head.hpp"
#include "model/pooling.hpp"

#include <cmath>
#include <cstdio>
#include <functional>
#include <limits>
#include <vector>

using namespace lstmcore;

namespace {

ModelConfig config_of(Pooling pooling, bool bidirectional, std::int64_t hidden) {
  ModelConfig config;
  config.recurrent.input_size = 2;
  config.recurrent.hidden_size = hidden;
  config.recurrent.bidirectional = bidirectional;
  config.pooling = pooling;
  config.outputs = 3;
  return config;
}

/// The outputs of layers over a ragged batch, a pooling with random tensors, and random slopes of the pooled vectors.
template <class T>
struct Problem {
  StackShape shape;
  std::vector<TensorInfo> tensors;
  PoolingOverTime<T> pooling;
  BatchLayout layout;
  std::int64_t stride;
  std::vector<T> out, parameters, slopes;

  explicit Problem(const ModelConfig& config)
      : shape(config.recurrent), tensors(network_tensors(config)), pooling(config, shape, tensors) {
    const std::vector<std::int64_t> lengths = {3, 1, 7, 4, 7, 2};
    layout.assign(lengths.data(), static_cast<std::int64_t>(lengths.size()));
    stride = shape.directions * padded<T>(shape.output);
    Rng rng(5);
    const auto fill = [&rng](std::vector<T>& values, std::int64_t count) {
      values.resize(static_cast<std::size_t>(count));
      for (T& value : values) value = static_cast<T>(rng.normal());
    };
    fill(out, layout.rows() * stride);  // the padding too: it must not matter
    fill(parameters, total_count(tensors));
    // Small enough that softmaxes do not jump between steps, where differences would say little of the slope.
    for (T& value : parameters) value *= T(0.3);
    fill(slopes, layout.sequences() * pooling.width());
    // The head gives gradients with zeros in the padding.
    for (std::int64_t i = 0; i < layout.sequences() * pooling.groups(); ++i) {
      const std::int64_t group = padded<T>(pooling.group_width());
      T* const at = slopes.data() + i * group;
      std::fill(at + pooling.group_width(), at + group, T{0});
    }
  }

  struct Result {
    double loss = 0;
    std::vector<T> pooled, d_out, gradient;
  };

  Result run(bool backward, int threads) const {
    Result result;
    typename PoolingOverTime<T>::Memory memory;
    std::vector<T> packed(static_cast<std::size_t>(pooling.packed_size()));
    pooling.pack(parameters.data(), packed.data());
    result.pooled.resize(slopes.size());
    const Rows<const T> rows{out.data(), stride};
    const Rows<T> pooled{result.pooled.data(), pooling.width()};
    pooling.forward(layout, rows, packed.data(), pooled, memory, backward, threads);
    for (std::size_t i = 0; i < slopes.size(); ++i) {
      if (slopes[i] != T{0}) result.loss += static_cast<double>(result.pooled[i]) * static_cast<double>(slopes[i]);
    }
    if (!backward) return result;
    const Rows<const T> d_pooled{slopes.data(), pooling.width()};
    result.gradient.assign(parameters.size(), std::numeric_limits<T>::quiet_NaN());
    result.d_out.assign(out.size(), std::numeric_limits<T>::quiet_NaN());
    pooling.prepare_backward(parameters.data(), layout, rows, pooled.read(), d_pooled, result.gradient.data(), memory,
                             threads);
    parallel(threads,
             [&](Member member) { pooling.backward(layout, d_pooled, memory, {result.d_out.data(), stride}, member); });
    return result;
  }
};

void gradients(const ModelConfig& config) {
  Problem<double> problem(config);
  const auto result = problem.run(true, 1);
  const double step = 1e-6;
  const auto numeric = [&](double& value) {
    const double before = value;
    value = before + step;
    const double above = problem.run(false, 1).loss;
    value = before - step;
    const double below = problem.run(false, 1).loss;
    value = before;
    return (above - below) / (2 * step);
  };
  const std::int64_t pp = padded<double>(problem.shape.output);
  for (std::size_t i = 0; i < problem.out.size(); ++i) {
    const bool real = static_cast<std::int64_t>(i) % pp < problem.shape.output;
    if (!real) {
      CHECK_EQ(result.d_out[i], 0.0);
    } else {
      CHECK_NEAR(result.d_out[i], numeric(problem.out[i]), 1e-7);
    }
  }
  for (const TensorInfo& tensor : problem.tensors) {
    if (tensor.name.rfind("pool_", 0) != 0) continue;
    for (std::int64_t i = tensor.offset; i < tensor.offset + tensor.count(); ++i) {
      const auto k = static_cast<std::size_t>(i);
      CHECK_NEAR(result.gradient[k], numeric(problem.parameters[k]), 1e-7);
    }
  }
}

/// Equal to the last bit, NaN where nothing was written included.
template <class T>
bool same(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

template <class T>
void threads(const ModelConfig& config) {
  const Problem<T> problem(config);
  const auto one = problem.run(true, 1);
  for (const int n : {2, 3, 5}) {
    const auto several = problem.run(true, n);
    CHECK(same(one.pooled, several.pooled));
    CHECK(same(one.d_out, several.d_out));
    CHECK(same(one.gradient, several.gradient));
  }
}

void poolings() {
  for (const bool bidirectional : {false, true}) {
    for (const std::int64_t hidden : {1, 3, 8, 13}) {
      std::vector<ModelConfig> configs;
      for (const Pooling kind : {Pooling::last, Pooling::mean, Pooling::max, Pooling::attention, Pooling::hopfield}) {
        configs.push_back(config_of(kind, bidirectional, hidden));
      }
      configs[3].pooling_size = 5;
      for (const std::int64_t updates : {0, 2, 3}) {
        configs.push_back(configs[4]);
        configs.back().pooling_updates = updates;
        configs.back().pooling_patterns = updates + 1;
        configs.back().pooling_beta = 0.7;
        configs.back().pooling_size = 2 * updates + 1;
      }
      for (const ModelConfig& config : configs) {
        gradients(config);
        threads<float>(config);
        threads<double>(config);
      }
    }
  }
}

/// A stream of steps carries what the pooling of the whole sequence needs.
void streaming() {
  for (const Pooling kind : {Pooling::last, Pooling::mean, Pooling::max, Pooling::attention, Pooling::hopfield}) {
    ModelConfig config = config_of(kind, false, 5);
    if (kind == Pooling::hopfield) config.pooling_updates = 0;
    const Problem<float> problem(config);
    const PoolingOverTime<float>& pooling = problem.pooling;
    const auto whole = problem.run(false, 1);
    std::vector<float> packed(static_cast<std::size_t>(pooling.packed_size()));
    pooling.pack(problem.parameters.data(), packed.data());
    std::vector<float> state(static_cast<std::size_t>(pooling.carried()));
    std::vector<float> scratch(static_cast<std::size_t>(pooling.scratch()));
    std::vector<float> pooled(static_cast<std::size_t>(pooling.width()));
    for (std::int64_t n = 0; n < problem.layout.sequences(); ++n) {
      pooling.start(state.data());
      for (std::int64_t t = 0; t < problem.layout.length(n); ++t) {
        const float* h = problem.out.data() + problem.layout.row(t, n) * problem.stride;
        pooling.add(packed.data(), h, t, state.data(), scratch.data());
      }
      pooling.finish(state.data(), problem.layout.length(n), pooled.data());
      for (std::int64_t i = 0; i < pooling.group_width(); ++i) {
        CHECK_EQ(pooled[static_cast<std::size_t>(i)], whole.pooled[static_cast<std::size_t>(n * pooling.width() + i)]);
      }
    }
  }
}

template <class T>
void selu() {
  constexpr int W = kLanes<T>;
  double worst = 0;
  for (int i = -40000; i < 10000; i += W) {
    T in[W];
    T out[W];
    for (int j = 0; j < W; ++j) in[j] = static_cast<T>(1e-3 * (i + j));
    store(out, Selu::value(load(in)));
    for (int j = 0; j < W; ++j) {
      const auto x = static_cast<double>(in[j]);
      const double exact = Selu::kScale * (x > 0 ? x : Selu::kAlpha * std::expm1(x));
      const double error = std::abs(static_cast<double>(out[j]) - exact);
      worst = std::fmax(worst, exact == 0 ? error : error / std::abs(exact));
      CHECK_NEAR(Selu::derivative(static_cast<double>(out[j])),
                 x > 0 ? Selu::kScale : Selu::kScale * Selu::kAlpha * std::exp(x), sizeof(T) == 4 ? 1e-6 : 1e-14);
    }
  }
  const double epsilon = static_cast<double>(std::numeric_limits<T>::epsilon());
  std::printf("selu: worst relative error %.2f ε\n", worst / epsilon);
  CHECK(worst < 4 * epsilon);
  CHECK_EQ(Selu::value(T{0}), T{0});
  CHECK(std::isnan(Selu::value(std::numeric_limits<T>::quiet_NaN())));
  CHECK_NEAR(Selu::value(-std::numeric_limits<T>::infinity()), Selu::kLowest, 1e-6);
  CHECK_EQ(Selu::value(std::numeric_limits<T>::infinity()), std::numeric_limits<T>::infinity());
}

/// Scores of the head, and with training the gradients too, in memory of exactly the size it says.
void heads() {
  for (const HeadActivation activation : {HeadActivation::selu, HeadActivation::relu, HeadActivation::tanh}) {
    for (const double dropout : {0.0, 0.4}) {
      ModelConfig config = config_of(Pooling::mean, true, 5);
      config.head_sizes = {9, 1, 4};
      config.head_activation = activation;
      config.head_dropout = dropout;
      const std::vector<TensorInfo> tensors = network_tensors(config);
      const Head<double> head(config, 2, 5, tensors);
      constexpr std::int64_t n = 5;
      const std::int64_t width = 2 * padded<double>(5);
      Rng rng(3);
      std::vector<double> parameters(static_cast<std::size_t>(total_count(tensors)));
      std::vector<double> pooled(static_cast<std::size_t>(n * width)), slopes(n * 3);
      for (auto* values : {&parameters, &pooled, &slopes}) {
        for (double& value : *values) value = rng.normal();
      }
      Head<double>::Memory memory;
      const auto loss = [&] {
        std::vector<double> packed(static_cast<std::size_t>(head.packed_size()));
        head.pack(parameters.data(), packed.data());
        std::vector<double> scores(static_cast<std::size_t>(n * head.stride()));
        head.forward(packed.data(), n, {pooled.data(), width}, {scores.data(), head.stride()}, memory, true, 7);
        double sum = 0;
        for (std::int64_t i = 0; i < n * 3; ++i) {
          sum += slopes[static_cast<std::size_t>(i)] * scores[static_cast<std::size_t>(i / 3 * head.stride() + i % 3)];
        }
        return sum;
      };
      loss();
      std::vector<double> gradient(parameters.size(), std::nan("")), d_pooled(pooled.size(), std::nan(""));
      head.backward(parameters.data(), n, {slopes.data(), 3}, {pooled.data(), width}, memory, gradient.data(),
                    {d_pooled.data(), width});
      const auto compare = [&](std::vector<double>& values, const std::vector<double>& found, std::size_t first) {
        for (std::size_t i = first; i < values.size(); ++i) {
          const double before = values[i];
          values[i] = before + 1e-6;
          const double above = loss();
          values[i] = before - 1e-6;
          const double below = loss();
          values[i] = before;
          CHECK_NEAR(found[i], (above - below) / 2e-6, 1e-7);
        }
      };
      compare(parameters, gradient, static_cast<std::size_t>(offset_of(tensors, "head_W_l0")));
      compare(pooled, d_pooled, 0);
    }
  }
}

}  // namespace

int main() {
  poolings();
  streaming();
  selu<float>();
  selu<double>();
  heads();
  return check::result();
}
