#include <lstmcore/decoder.hpp>

#include "api/checks.hpp"
#include "engine/engine.hpp"

namespace lstmcore {

/// What decode() needs of the insides of the public classes.
struct DecoderAccess {
  static engine::RecurrentEngine& engine(const Recurrent& layer) noexcept { return *layer.impl_; }
  static std::unique_ptr<engine::TapeEngine>& impl(DecoderTape& tape) noexcept { return tape.impl_; }
  static const void*& owner(DecoderTape& tape) noexcept { return tape.owner_; }
  static DecoderConfig& config(DecoderTape& tape) noexcept { return tape.config_; }
};

namespace {

using checks::fail;

std::string text(std::int64_t number) { return std::to_string(number); }

void expect_width(const char* name, std::int64_t found, std::int64_t expected, const char* why) {
  if (found != expected) fail(std::string(name) + ": expected " + text(expected) + ", " + why + ", got " + text(found));
}

void expect(const void* pointer, const char* name) {
  if (pointer == nullptr) fail(std::string(name) + ": must not be null");
}

void check(const Recurrent& layer, const DecoderConfig& config) {
  const RecurrentConfig& recurrent = layer.config();
  if (recurrent.precision != Precision::same_as_dtype) {
    fail("layer: a decoder computes in float32 or float64; expected the precision of the dtype, got bfloat16");
  }
  if (recurrent.bidirectional || recurrent.reverse) {
    fail("layer: a decoder reads what it has written so far: expected one direction, forwards");
  }
  for (const CellInfo& cell : cells()) {
    if (cell.name == recurrent.cell && !cell.stepwise) {
      fail("layer: cell '" + cell.name + "' does not run step by step; use another for a decoder");
    }
  }
  checks::check_size("tokens", config.tokens);
  checks::check_size("embedding", config.embedding);
  const std::int64_t width = layer.output_width();
  if (config.attention == Attention::none) {
    expect_width("value_width", config.value_width, 0, "since there is no attention");
    expect_width("key_width", config.key_width, 0, "since there is no attention");
  } else {
    checks::check_size("value_width", config.value_width);
    checks::check_size("key_width", config.key_width);
    if (config.attention == Attention::dot) {
      expect_width("key_width", config.key_width, width, "the width of h, with dot attention");
    }
  }
  const std::int64_t input = config.embedding + (config.attention == Attention::additive ? config.value_width : 0) +
                             (config.input_feeding ? width : 0);
  expect_width("layer: input_size", recurrent.input_size, input, "what the decoder's steps read");
}

void check(const DecoderConfig& config, const DecoderWeights& weights, bool samples) {
  expect(weights.table, "table");
  if (config.attention != Attention::none) expect(weights.output, "output");
  if (config.attention == Attention::additive) {
    expect(weights.query, "query");
    expect(weights.score, "score");
  }
  if (samples) {
    expect(weights.head_w, "head_w");
    expect(weights.head_b, "head_b");
  }
}

void check(const DecoderConfig& config, const DecoderInput& in, bool records) {
  expect(in.tokens, "tokens");
  expect(in.lengths, "lengths");
  if (in.count < 1) fail("count: expected at least 1, got " + text(in.count));
  for (std::int64_t n = 0; n < in.count; ++n) {
    if (in.lengths[n] < 1 || in.lengths[n] > in.steps) {
      fail("lengths: sequence " + text(n) + ": expected 1 to " + text(in.steps) + ", got " + text(in.lengths[n]));
    }
    for (std::int64_t t = 0; t < in.lengths[n]; ++t) {
      const std::int32_t token = in.tokens[n * in.steps + t];
      if (token < 0 || token >= config.tokens) {
        fail("tokens: sequence " + text(n) + ", step " + text(t) + ": expected 0 to " + text(config.tokens - 1) +
             ", got " + text(token));
      }
    }
  }
  if (config.attention == Attention::none) return;
  expect(in.values, "values");
  expect(in.keys, "keys");
  expect(in.source_lengths, "source_lengths");
  if (in.keys == in.values && config.key_width != config.value_width) {
    fail("keys: they are the values, but key_width is " + text(config.key_width) + " and value_width " +
         text(config.value_width));
  }
  if (in.sources < 1) fail("sources: expected at least 1, got " + text(in.sources));
  for (std::int64_t s = 0; s < in.sources; ++s) {
    if (in.source_lengths[s] < 1 || in.source_lengths[s] > in.source_steps) {
      fail("source_lengths: source " + text(s) + ": expected 1 to " + text(in.source_steps) + ", got " +
           text(in.source_lengths[s]));
    }
  }
  if (in.owners == nullptr) {
    if (in.sources != in.count) {
      fail("sources: expected as many as sequences, " + text(in.count) + ", without owners, got " + text(in.sources));
    }
    return;
  }
  if (records) fail("owners: expected null with a tape: each sequence has a source of its own");
  for (std::int64_t n = 0; n < in.count; ++n) {
    if (in.owners[n] < 0 || in.owners[n] >= in.sources) {
      fail("owners: sequence " + text(n) + ": expected 0 to " + text(in.sources - 1) + ", got " + text(in.owners[n]));
    }
  }
}

}  // namespace

DecoderTape::DecoderTape() noexcept = default;
DecoderTape::~DecoderTape() = default;
DecoderTape::DecoderTape(DecoderTape&&) noexcept = default;
DecoderTape& DecoderTape::operator=(DecoderTape&&) noexcept = default;

void decode(const Recurrent& layer, const DecoderConfig& config, const DecoderWeights& weights,
            const DecoderInput& input, const DecoderOutput& output, DecoderTape* tape) {
  check(layer, config);
  check(config, weights, input.sample != nullptr);
  check(config, input, tape != nullptr);
  expect(output.outputs, "outputs");
  if (output.weights != nullptr && config.attention == Attention::none)
    fail("weights: there are none without attention");
  const engine::RecurrentEngine& engine = DecoderAccess::engine(layer);
  if (tape == nullptr) {
    engine.decode(config, weights, input, output, nullptr);
    return;
  }
  // A tape of another layer is replaced: its recording would have other shapes.
  if (!*tape || DecoderAccess::owner(*tape) != &engine) {
    DecoderAccess::impl(*tape) = engine.make_decoder_tape();
    DecoderAccess::owner(*tape) = &engine;
  }
  DecoderAccess::config(*tape) = config;
  engine.decode(config, weights, input, output, DecoderAccess::impl(*tape).get());
}

void decode_backward(const Recurrent& layer, DecoderTape& tape, const DecoderWeights& weights, const void* d_outputs,
                     const DecoderGradients& gradients) {
  if (!tape) fail("tape: it is empty; run decode() with it first");
  const engine::RecurrentEngine& engine = DecoderAccess::engine(layer);
  if (DecoderAccess::owner(tape) != &engine) fail("tape: it was recorded by another layer");
  const DecoderConfig& config = DecoderAccess::config(tape);
  check(config, weights, false);
  expect(d_outputs, "d_outputs");
  expect(gradients.layers, "gradients.layers");
  expect(gradients.table, "gradients.table");
  if (config.attention != Attention::none) {
    expect(gradients.output, "gradients.output");
    expect(gradients.values, "gradients.values");
    expect(gradients.keys, "gradients.keys");
  }
  if (config.attention == Attention::additive) {
    expect(gradients.query, "gradients.query");
    expect(gradients.score, "gradients.score");
  }
  engine.decode_backward(*DecoderAccess::impl(tape), weights, d_outputs, gradients);
}

}  // namespace lstmcore
