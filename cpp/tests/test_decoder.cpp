// The decoder through the public API: gradients against finite differences, tapes, wrong input.
#include <lstmcore/decoder.hpp>

#include "check.hpp"

#include <cstdint>
#include <vector>

using lstmcore::Attention;
using lstmcore::DecoderConfig;
using lstmcore::DecoderGradients;
using lstmcore::DecoderInput;
using lstmcore::DecoderOutput;
using lstmcore::DecoderTape;
using lstmcore::DecoderWeights;
using lstmcore::Recurrent;
using lstmcore::RecurrentConfig;

namespace {

using Numbers = std::vector<double>;

constexpr std::int64_t kN = 3, kT = 4, kS = 5, kV = 4, kM = 2, kE = 3, kA = 4, kH = 3;

/// Numbers in ±1 that look random.
Numbers numbers(std::int64_t count, unsigned seed) {
  Numbers values(static_cast<std::size_t>(count));
  std::uint32_t state = seed * 2654435761U + 1;
  for (double& value : values) {
    state = state * 1664525U + 1013904223U;
    value = static_cast<double>(state >> 8) / 8388608.0 - 1.0;
  }
  return values;
}

struct Problem {
  DecoderConfig config;
  Recurrent layer;
  Numbers table = numbers(kV * kM, 1), query = numbers(kA * kH, 2), score = numbers(kA, 3);
  Numbers output = numbers(kH * (kE + kH), 4), values = numbers(kN * kS * kE, 5), keys;
  Numbers direction = numbers(kN * kT * kH, 7), outputs = Numbers(static_cast<std::size_t>(kN * kT * kH));
  std::vector<std::int32_t> tokens{0, 1, 2, 3, 3, 2, 0, 0, 1, 1, 1, 0};
  std::vector<std::int64_t> lengths{4, 2, 3}, source_lengths{2, 5, 1};

  explicit Problem(Attention attention, bool feeds) : config(config_of(attention, feeds)), layer(layer_of(config)) {
    keys = numbers(kN * kS * config.key_width, 6);
    for (std::size_t n = 0; n < 3; ++n) {  // nothing past a length counts
      for (std::int64_t k = lengths[n] * kH; k < kT * kH; ++k) direction[n * kT * kH + static_cast<std::size_t>(k)] = 0;
    }
  }

  static DecoderConfig config_of(Attention attention, bool feeds) {
    DecoderConfig config;
    config.attention = attention;
    config.input_feeding = feeds;
    config.tokens = kV;
    config.embedding = kM;
    if (attention != Attention::none) {
      config.value_width = kE;
      config.key_width = attention == Attention::dot ? kH : kA;
    }
    return config;
  }
  static Recurrent layer_of(const DecoderConfig& config) {
    RecurrentConfig recurrent;
    recurrent.input_size = kM + (config.attention == Attention::additive ? kE : 0) + (config.input_feeding ? kH : 0);
    recurrent.hidden_size = kH;
    recurrent.num_layers = 2;
    recurrent.dtype = lstmcore::Dtype::float64;
    return Recurrent(recurrent);
  }

  DecoderWeights weights() const {
    DecoderWeights w;
    w.table = table.data();
    w.query = query.data();
    w.score = score.data();
    w.output = output.data();
    return w;
  }
  DecoderInput input() {
    DecoderInput in;
    in.tokens = tokens.data();
    in.lengths = lengths.data();
    in.count = kN;
    in.steps = kT;
    if (config.attention == Attention::none) return in;
    in.values = values.data();
    in.keys = keys.data();
    in.source_lengths = source_lengths.data();
    in.sources = kN;
    in.source_steps = kS;
    return in;
  }
  double loss(DecoderTape* tape = nullptr) {
    DecoderOutput out;
    out.outputs = outputs.data();
    decode(layer, config, weights(), input(), out, tape);
    double sum = 0;
    for (std::size_t i = 0; i < outputs.size(); ++i) sum += outputs[i] * direction[i];
    return sum;
  }
};

void test_gradients(Attention attention, bool feeds) {
  Problem p(attention, feeds);
  DecoderTape tape;
  p.loss(&tape);
  Numbers layers(static_cast<std::size_t>(p.layer.parameter_count()));
  Numbers table(p.table.size()), query(p.query.size()), score(p.score.size()), output(p.output.size());
  Numbers values(p.values.size()), keys(p.keys.size());
  DecoderGradients to;
  to.layers = layers.data();
  to.table = table.data();
  to.query = query.data();
  to.score = score.data();
  to.output = output.data();
  to.values = values.data();
  to.keys = keys.data();
  decode_backward(p.layer, tape, p.weights(), p.direction.data(), to);
  CHECK_THROWS_WITH(decode_backward(p.layer, tape, p.weights(), p.direction.data(), to), std::invalid_argument,
                    "used up");

  const auto compare = [&](double* at, const Numbers& gradient) {
    for (std::size_t i = 0; i < gradient.size(); ++i) {
      const double kept = at[i];
      at[i] = kept + 1e-6;
      const double above = p.loss();
      at[i] = kept - 1e-6;
      const double below = p.loss();
      at[i] = kept;
      CHECK_NEAR((above - below) / 2e-6, gradient[i], 1e-7);
    }
  };
  compare(static_cast<double*>(p.layer.parameters()), layers);
  compare(p.table.data(), table);
  if (attention == Attention::none) return;
  compare(p.output.data(), output);
  compare(p.values.data(), values);
  compare(p.keys.data(), keys);
  if (attention != Attention::additive) return;
  compare(p.query.data(), query);
  compare(p.score.data(), score);
}

void test_wrong_input() {
  Problem p(Attention::additive, false);
  p.tokens[1] = kV;
  CHECK_THROWS_WITH(p.loss(), std::invalid_argument, "tokens: sequence 0, step 1: expected 0 to 3, got 4");
  p.tokens[1] = 0;
  p.lengths[2] = 5;
  CHECK_THROWS_WITH(p.loss(), std::invalid_argument, "lengths: sequence 2: expected 1 to 4, got 5");
  p.lengths[2] = 3;
  p.source_lengths[0] = 0;
  CHECK_THROWS_WITH(p.loss(), std::invalid_argument, "source_lengths: source 0: expected 1 to 5, got 0");
  p.source_lengths[0] = 1;
  p.config.input_feeding = true;
  CHECK_THROWS_WITH(p.loss(), std::invalid_argument, "input_size: expected 8");
  p.config.input_feeding = false;
  DecoderTape tape;
  p.loss(&tape);
  Problem other(Attention::additive, false);
  CHECK_THROWS_WITH(decode_backward(other.layer, tape, p.weights(), p.direction.data(), {}), std::invalid_argument,
                    "another layer");
  CHECK_THROWS_WITH(decode_backward(p.layer, tape, p.weights(), p.direction.data(), {}), std::invalid_argument,
                    "gradients.layers");
  DecoderTape empty;
  CHECK_THROWS_WITH(decode_backward(p.layer, empty, p.weights(), p.direction.data(), {}), std::invalid_argument,
                    "it is empty");
}

}  // namespace

int main() {
  for (const Attention attention : {Attention::none, Attention::additive, Attention::dot}) {
    for (const bool feeds : {false, true}) test_gradients(attention, feeds);
  }
  test_wrong_input();
  return check::result();
}
