#include <lstmcore/language.hpp>

#include "api/checks.hpp"
#include "engine/engine.hpp"

#include <cmath>
#include <set>
#include <string>

namespace lstmcore {

/// The engine behind a public object.
struct RecurrentAccess {
  static engine::RecurrentEngine& engine_of(const Recurrent& layers) { return *layers.impl_; }
};

namespace {

using checks::fail;

std::string text(std::int64_t number) { return std::to_string(number); }

void check_present(const char* name, const void* pointer) {
  if (pointer == nullptr) fail(std::string(name) + ": expected values, got null");
}

void check_count(const char* name, std::int64_t count) {
  if (count < 1) fail(std::string(name) + ": expected at least 1, got " + text(count));
}

void check_codes(const char* name, const std::int32_t* codes, std::int64_t count, std::int64_t symbols) {
  check_present(name, codes);
  for (std::int64_t i = 0; i < count; ++i) {
    if (codes[i] >= 0 && codes[i] < symbols) continue;
    fail(std::string(name) + "[" + text(i) + "]: expected a symbol in 0 … " + text(symbols - 1) + ", got " +
         text(codes[i]));
  }
}

void check(const Embedding& embedding, bool needs_table) {
  checks::check_size("embedding: symbols", embedding.symbols);
  checks::check_size("embedding: width", embedding.width);
  if (needs_table) check_present("embedding: table", embedding.table);
}

void check(const DenseLayer& layer, const void* x, std::int64_t rows, const std::int32_t* labels,
           const SoftmaxGradient* gradient, int n_threads) {
  checks::check_size("inputs", layer.inputs);
  checks::check_size("outputs", layer.outputs);
  check_count("rows", rows);
  check_present("w", layer.w);
  check_present("b", layer.b);
  check_present("x", x);
  check_codes("labels", labels, rows, layer.outputs);
  checks::check_threads(n_threads);
  if (gradient == nullptr) return;
  check_present("gradient: x", gradient->x);
  check_present("gradient: w", gradient->w);
  check_present("gradient: b", gradient->b);
  if (!std::isfinite(gradient->scale)) fail("gradient: scale: expected a finite number");
}

/// Returns V.
std::int64_t check(const OutputParts& output, std::int64_t inputs) {
  if (output.empty()) fail("output: expected at least one part, got none");
  const auto further = static_cast<std::int64_t>(output.size()) - 1;
  std::int64_t symbols = -further;
  for (std::size_t i = 0; i < output.size(); ++i) {
    const OutputPart& part = output[i];
    const std::string where = "output[" + std::to_string(i) + "]: ";
    checks::check_size((where + "inputs").c_str(), part.layer.inputs);
    checks::check_size((where + "outputs").c_str(), part.layer.outputs);
    check_present((where + "w").c_str(), part.layer.w);
    check_present((where + "b").c_str(), part.layer.b);
    if (part.projection == nullptr && part.layer.inputs != inputs) {
      fail(where + "expected " + text(inputs) + " inputs, as many as the layers have outputs, or a projection; got " +
           text(part.layer.inputs));
    }
    symbols += part.layer.outputs;
  }
  if (output.front().layer.outputs < further + (further == 0 ? 1 : 0)) {
    fail("output[0]: expected at least one output for each of the " + text(further) + " further parts, got " +
         text(output.front().layer.outputs));
  }
  return symbols;
}

void check(const SamplingOptions& options, std::int64_t symbols) {
  const double temperature = options.temperature;
  if (!(temperature == 0.0 || temperature >= 1e-6) || !std::isfinite(temperature)) {
    fail("temperature: expected 0, or a finite number from 1e-6 on, got " + std::to_string(temperature));
  }
  if (options.top_k < 0) fail("top_k: expected 0 or more, got " + text(options.top_k));
  if (!(options.top_p > 0.0 && options.top_p <= 1.0)) {
    fail("top_p: expected a number in (0, 1], got " + std::to_string(options.top_p));
  }
  const std::set<std::int32_t> distinct(options.forbidden.begin(), options.forbidden.end());
  if (!options.forbidden.empty()) {
    check_codes("forbidden", options.forbidden.data(), static_cast<std::int64_t>(options.forbidden.size()), symbols);
  }
  if (distinct.size() != options.forbidden.size()) fail("forbidden: a symbol is named twice");
  if (static_cast<std::int64_t>(distinct.size()) >= symbols) fail("forbidden: expected to leave at least one symbol");
  for (const std::vector<std::int32_t>& stop : options.stops) {
    if (stop.empty()) fail("stops: expected at least one symbol in each");
    check_codes("stops", stop.data(), static_cast<std::int64_t>(stop.size()), symbols);
  }
}

}  // namespace

void embed(Dtype dtype, const Embedding& embedding, const std::int32_t* codes, std::int64_t count, void* rows) {
  check(embedding, true);
  check_count("count", count);
  check_codes("codes", codes, count, embedding.symbols);
  check_present("rows", rows);
  engine::current().language(dtype).embed(embedding, codes, count, rows);
}

void embed_backward(Dtype dtype, const Embedding& embedding, const std::int32_t* codes, std::int64_t count,
                    const void* rows, void* gradient, int n_threads) {
  check(embedding, false);
  check_count("count", count);
  check_codes("codes", codes, count, embedding.symbols);
  check_present("rows", rows);
  check_present("gradient", gradient);
  checks::check_threads(n_threads);
  engine::current().language(dtype).embed_backward(embedding, codes, count, rows, gradient, n_threads);
}

double softmax_loss(Dtype dtype, const DenseLayer& layer, const void* x, std::int64_t rows, const std::int32_t* labels,
                    double* losses, const SoftmaxGradient* gradient, int n_threads) {
  check(layer, x, rows, labels, gradient, n_threads);
  return engine::current().language(dtype).softmax_loss(layer, x, rows, labels, losses, gradient, n_threads);
}

double sampled_softmax_loss(Dtype dtype, const DenseLayer& layer, const void* x, std::int64_t rows,
                            const std::int32_t* labels, const SampledSymbols& samples, double* losses,
                            const SoftmaxGradient* gradient, int n_threads) {
  check(layer, x, rows, labels, gradient, n_threads);
  check_count("samples: count", samples.count);
  check_codes("samples", samples.symbols, samples.count, layer.outputs);
  std::vector<char> seen(static_cast<std::size_t>(layer.outputs), 0);
  for (std::int64_t j = 0; j < samples.count; ++j) {
    char& mark = seen[static_cast<std::size_t>(samples.symbols[j])];
    if (mark != 0) fail("samples[" + text(j) + "]: the symbol " + text(samples.symbols[j]) + " is named twice");
    mark = 1;
  }
  const auto look = [](const char* name, const double* values, std::int64_t count) {
    check_present(name, values);
    for (std::int64_t i = 0; i < count; ++i) {
      if (!std::isfinite(values[i])) fail(std::string(name) + "[" + text(i) + "]: expected a finite number");
    }
  };
  look("log_expected", samples.log_expected, samples.count);
  look("label_log_expected", samples.label_log_expected, rows);
  return engine::current().language(dtype).sampled_softmax_loss(layer, x, rows, labels, samples, losses, gradient,
                                                                n_threads);
}

void log_probabilities(Dtype dtype, const OutputParts& output, const void* x, std::int64_t rows, std::int64_t inputs,
                       void* out, int n_threads) {
  checks::check_size("inputs", inputs);
  check(output, inputs);
  check_count("rows", rows);
  check_present("x", x);
  check_present("out", out);
  checks::check_threads(n_threads);
  engine::current().language(dtype).log_probabilities(output, x, rows, inputs, out, n_threads);
}

std::vector<std::vector<std::int32_t>> generate(const Recurrent& layers, const Embedding& embedding,
                                                const OutputParts& output, const std::vector<std::int32_t>& first,
                                                void* const* state, std::int64_t length, const SamplingOptions& options,
                                                const Cancel& cancel) {
  const RecurrentConfig& config = layers.config();
  if (config.bidirectional || config.reverse) {
    fail("layers: a bidirectional or reverse layer reads what is still to be generated; expected bidirectional=False");
  }
  check(embedding, true);
  if (embedding.width != config.input_size) {
    fail("embedding: width: expected " + text(config.input_size) + ", the layers' input_size, got " +
         text(embedding.width));
  }
  const std::int64_t symbols = check(output, layers.output_width());
  if (symbols != embedding.symbols) {
    fail("output: expected " + text(embedding.symbols) + " symbols, as the embedding has, got " + text(symbols));
  }
  check_count("first: size", static_cast<std::int64_t>(first.size()));
  check_codes("first", first.data(), static_cast<std::int64_t>(first.size()), symbols);
  check_present("state", state);
  for (std::size_t s = 0; s < layers.states().size(); ++s) check_present("state", state[s]);
  if (length < 0) fail("length: expected 0 or more, got " + text(length));
  check(options, symbols);
  return engine::current()
      .language(config.dtype)
      .generate(RecurrentAccess::engine_of(layers), embedding, output, first, state, length, options, cancel);
}

}  // namespace lstmcore
