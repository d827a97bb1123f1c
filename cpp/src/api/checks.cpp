#include "api/checks.hpp"

#include "engine/engine.hpp"

#include <algorithm>
#include <cmath>

namespace lstmcore::checks {

namespace {

std::string join(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

std::string text_of(double value) {
  std::string text = std::to_string(value);
  if (std::isfinite(value) && value == std::floor(value) && std::fabs(value) < 1e15) {
    text = std::to_string(static_cast<long long>(value));
  }
  return text;
}

std::string text_of(const Option& option) {
  struct Visitor {
    std::string operator()(bool v) const { return v ? "true" : "false"; }
    std::string operator()(std::int64_t v) const { return std::to_string(v); }
    std::string operator()(double v) const { return text_of(v); }
    std::string operator()(const std::string& v) const { return "'" + v + "'"; }
  };
  return std::visit(Visitor{}, option);
}

void expect(bool holds, const char* name, double found, const char* expected) {
  if (!holds) fail(std::string(name) + ": expected " + expected + ", got " + text_of(found));
}

void check_option(const std::string& cell, const std::string& name, const OptionInfo& info, const Option& value) {
  const std::string where = "cell_options: " + name + " of cell '" + cell + "': expected ";
  if (!info.allowed.empty()) {
    if (std::find(info.allowed.begin(), info.allowed.end(), value) != info.allowed.end()) return;
    std::vector<std::string> texts;
    for (const Option& allowed : info.allowed) {
      const auto* text = std::get_if<std::string>(&allowed);
      texts.push_back(text != nullptr ? *text : text_of(allowed));
    }
    fail(where + "one of " + join(texts) + ", got " + text_of(value));
  }
  if (!info.letters.empty()) {
    const auto* text = std::get_if<std::string>(&value);
    if (text == nullptr || text->empty() || text->size() > 64 ||
        text->find_first_not_of(info.letters) != std::string::npos) {
      fail(where + "a text of 1 to 64 of the letters " + info.letters + ", got " + text_of(value));
    }
    return;
  }
  const auto* number = std::get_if<std::int64_t>(&value);
  if (number == nullptr || *number < info.lowest) {
    fail(where + "an integer of at least " + std::to_string(info.lowest) + ", got " + text_of(value));
  }
}

/// Options that are right by themselves and not together, or not for this hidden_size.
void check_together(const RecurrentConfig& config, const CellInfo& cell) {
  const auto value = [&](const char* name) -> const Option* {
    const auto option = cell.options.find(name);
    if (option == cell.options.end()) return nullptr;
    const auto given = config.cell_options.find(name);
    return given != config.cell_options.end() ? &given->second : &option->second.initial;
  };
  const auto number = [&](const char* name) {
    const Option* found = value(name);
    return found == nullptr ? std::int64_t{0} : std::get<std::int64_t>(*found);
  };
  for (const char* name : {"heads", "block_size"}) {
    const std::int64_t parts = number(name);
    if (parts > 1 && config.hidden_size % parts != 0) {
      fail("cell_options: " + std::string(name) + " of cell '" + config.cell + "': expected a divisor of hidden_size=" +
           std::to_string(config.hidden_size) + ", got " + std::to_string(parts));
    }
  }
  if (number("proj_size") >= config.hidden_size && number("proj_size") > 0) {
    fail("cell_options: proj_size of cell '" + config.cell + "': expected less than hidden_size=" +
         std::to_string(config.hidden_size) + " (0: no projection), got " + std::to_string(number("proj_size")));
  }
  const Option* norm = value("layer_norm");
  if (norm != nullptr && std::get<bool>(*norm)) {
    const Option* variant = value("variant");
    if (variant != nullptr && std::get<std::string>(*variant) != "vanilla") {
      fail("cell_options: layer_norm of cell '" + config.cell +
           "' works with variant='vanilla', got variant=" + text_of(*variant));
    }
    const Option* after = value("reset_after");
    if (after != nullptr && !std::get<bool>(*after)) {
      fail("cell_options: layer_norm of cell 'gru' works with reset_after=true, got false");
    }
  }
}

/// The cell that the config names, its options checked.
const CellInfo& check_cell(const RecurrentConfig& config) {
  const std::vector<CellInfo>& all = engine::current().cells();
  const auto cell = std::find_if(all.begin(), all.end(), [&](const CellInfo& c) { return c.name == config.cell; });
  if (cell == all.end()) {
    std::vector<std::string> names;
    for (const CellInfo& c : all) names.push_back(c.name);
    fail("cell: expected one of " + join(names) + ", got '" + config.cell + "'");
  }
  for (const auto& [name, value] : config.cell_options) {
    const auto option = cell->options.find(name);
    if (option == cell->options.end()) {
      std::vector<std::string> names;
      for (const auto& entry : cell->options) names.push_back(entry.first);
      fail("cell_options: cell '" + config.cell + "' has no option '" + name + "'; " +
           (names.empty() ? "it has none" : "it has " + join(names)));
    }
    check_option(config.cell, name, option->second, value);
  }
  check_together(config, *cell);
  return *cell;
}

/// Weights must be addressable: their number times eight bytes stays far inside 63 bits.
void check_total(const RecurrentConfig& config) {
  const auto h = static_cast<double>(config.hidden_size);
  const double directions = config.bidirectional ? 2 : 1;
  const double in = static_cast<double>(config.input_size) + h;
  const auto blocks = config.cell_options.find("blocks");
  const double repeats =
      blocks == config.cell_options.end() ? 2.0 : static_cast<double>(std::get<std::string>(blocks->second).size());
  const double upper =
      16.0 * repeats * directions * h * (in + static_cast<double>(config.num_layers - 1) * (directions + 1) * h);
  if (upper > 1e15) {
    fail("hidden_size, input_size, num_layers: " + std::to_string(config.hidden_size) + ", " +
         std::to_string(config.input_size) + ", " + std::to_string(config.num_layers) +
         " together need more weights than can be addressed");
  }
}

void check_pooling(const ModelConfig& config) {
  const bool hopfield = config.pooling == Pooling::hopfield;
  const bool learns = hopfield || config.pooling == Pooling::attention;
  if (config.pooling_size != 0) check_size("pooling_size", config.pooling_size);
  expect(learns || config.pooling_size == 0, "pooling_size", static_cast<double>(config.pooling_size),
         "0 with any pooling but attention and hopfield");
  check_size("pooling_patterns", config.pooling_patterns);
  expect(hopfield || config.pooling_patterns == 1, "pooling_patterns", static_cast<double>(config.pooling_patterns),
         "1 with any pooling but hopfield");
  expect(std::isfinite(config.pooling_beta) && config.pooling_beta >= 0, "pooling_beta", config.pooling_beta,
         "a number above 0, or 0 for 1/sqrt(size of the keys)");
  expect(hopfield || config.pooling_beta == 0, "pooling_beta", config.pooling_beta, "0 with any pooling but hopfield");
  expect(config.pooling_updates >= 0 && config.pooling_updates <= 100, "pooling_updates",
         static_cast<double>(config.pooling_updates), "an integer from 0 to 100");
  expect(hopfield || config.pooling_updates == 1, "pooling_updates", static_cast<double>(config.pooling_updates),
         "1 with any pooling but hopfield");
}

/// Also the number of weights that pooling and head have together.
void check_head(const ModelConfig& config) {
  if (config.head_sizes.size() > 1000) {
    fail("head_sizes: expected at most 1000 hidden layers, got " + std::to_string(config.head_sizes.size()));
  }
  for (std::size_t i = 0; i < config.head_sizes.size(); ++i) {
    check_size(("head_sizes[" + std::to_string(i) + "]").c_str(), config.head_sizes[i]);
  }
  const double p = config.head_dropout;
  expect(p >= 0 && p < 1, "head_dropout", p, "a number from 0 up to but not including 1");
  expect(p == 0 || !config.head_sizes.empty(), "head_dropout", p, "0 without hidden layers (head_sizes)");

  const double out = (config.recurrent.bidirectional ? 2.0 : 1.0) * static_cast<double>(config.recurrent.hidden_size);
  const double size = config.pooling_size > 0 ? static_cast<double>(config.pooling_size) : out;
  const auto patterns = static_cast<double>(config.pooling_patterns);
  double width = config.pooling == Pooling::hopfield ? patterns * size : out;
  double upper = 2.0 * size * out + width;
  for (const std::int64_t units : config.head_sizes) {
    upper += (width + 1.0) * static_cast<double>(units);
    width = static_cast<double>(units);
  }
  upper += width * static_cast<double>(config.outputs);
  if (upper > 1e15) {
    fail("pooling_size, pooling_patterns, head_sizes, outputs: together they need more weights than can be addressed");
  }
}

void check_precision(const RecurrentConfig& config, const CellInfo& cell) {
  if (config.precision == Precision::same_as_dtype) return;
  const std::string where = "precision: bfloat16 ";
  if (config.dtype != Dtype::float32) {
    fail(where + "keeps weights, sums and states in float32; expected dtype float32, got float64");
  }
  if (!cell.stepwise) {
    fail(where + "does not work with cell '" + config.cell +
         "', which takes many steps at once; use float32, or quantise the trained model");
  }
  for (const auto& [name, value] : config.cell_options) {
    if ((name == "variant" && value == Option(std::string("FGR"))) ||
        (name == "gate_recurrence" && value == Option(true))) {
      fail(where + "does not work with " + name + "=" + text_of(value) + " of cell '" + config.cell +
           "', whose gates feed back; use float32, or another variant");
    }
  }
}

void check_quantization(const ModelConfig& config) {
  if (config.quantization == Quantization::none) return;
  const RecurrentConfig& r = config.recurrent;
  const std::string where = "quantization: dynamic_int8 ";
  if (r.precision != Precision::same_as_dtype) {
    fail(where + "takes the place of precision bfloat16; expected the precision float32");
  }
  if (r.dtype != Dtype::float32) fail(where + "computes in float32; expected dtype float32, got float64");
  static const std::vector<std::string> cells = {"elman", "lstm", "peephole", "gru", "slstm"};
  if (std::find(cells.begin(), cells.end(), r.cell) == cells.end()) {
    fail(where + "works with the cells " + join(cells) + ", got '" + r.cell + "'; keep the model as it is");
  }
  for (const auto& [name, value] : r.cell_options) {
    const bool refused = (name == "layer_norm" && value == Option(true)) ||
                         (name == "reset_after" && value == Option(false)) ||
                         (name == "proj_size" && value != Option(std::int64_t{0})) ||
                         (name == "variant" && value == Option(std::string("FGR")));
    if (refused) {
      fail(where + "does not work with " + name + "=" + text_of(value) + " of cell '" + r.cell +
           "'; train with its default, or keep the model as it is");
    }
  }
  if (r.zoneout_hidden > 0 || r.zoneout_cell > 0) {
    fail(where + "does not work with zoneout; train with recurrent_dropout instead, or keep the model as it is");
  }
  const std::int64_t widest = std::max(r.input_size, r.hidden_size * (r.bidirectional ? 2 : 1));
  constexpr std::int64_t kLongestRow = std::int64_t{1} << 17;  // 127 · 127 times as much stays inside 32 bits
  if (widest > kLongestRow) {
    fail(where + "adds up rows of at most " + std::to_string(kLongestRow) + " products, got a row of " +
         std::to_string(widest) + " (input_size, or hidden_size times directions)");
  }
}

}  // namespace

void fail(const std::string& message) { throw std::invalid_argument(message); }

void check_size(const char* name, std::int64_t value) {
  // 2³¹ keeps every product of sizes inside 64 bits.
  if (value < 1 || value > (std::int64_t{1} << 31)) {
    fail(std::string(name) + ": expected an integer from 1 to 2147483648, got " + std::to_string(value));
  }
}

void check_threads(int n) {
  if (n < 0) fail("n_threads: expected 0 (all cores) or more, got " + std::to_string(n));
}

void check(const RecurrentConfig& config) {
  check_size("input_size", config.input_size);
  check_size("hidden_size", config.hidden_size);
  if (config.num_layers < 1 || config.num_layers > 10000) {
    fail("num_layers: expected an integer from 1 to 10000, got " + std::to_string(config.num_layers));
  }
  expect(config.dropout >= 0 && config.dropout < 1, "dropout", config.dropout,
         "a number from 0 up to but not including 1");
  const auto probability = [](const char* name, double value) {
    expect(value >= 0 && value < 1, name, value, "a number from 0 up to but not including 1");
  };
  probability("variational_dropout", config.variational_dropout);
  probability("recurrent_dropout", config.recurrent_dropout);
  probability("zoneout_hidden", config.zoneout_hidden);
  probability("zoneout_cell", config.zoneout_cell);
  if (config.reverse && config.bidirectional) {
    fail("reverse: true together with bidirectional, which has a reverse direction already; set one of them to false");
  }
  check_threads(config.n_threads);
  const CellInfo& cell = check_cell(config);
  const auto refuse = [&](const char* name, bool given) {
    if (given && !cell.stepwise) {
      fail(std::string(name) + ": cell '" + config.cell + "' has no " + name +
           ", for it takes many steps at once; use dropout");
    }
  };
  refuse("variational_dropout", config.variational_dropout > 0);
  refuse("recurrent_dropout", config.recurrent_dropout > 0);
  refuse("zoneout_hidden", config.zoneout_hidden > 0);
  refuse("zoneout_cell", config.zoneout_cell > 0);
  refuse("learn_initial_state", config.learn_initial_state);
  check_precision(config, cell);
  if (config.recurrent_dropout > 0 && !cell.has_candidate) {
    fail("recurrent_dropout: cell '" + config.cell + "' has no candidate that it could drop; use variational_dropout");
  }
  if (config.zoneout_cell > 0 && cell.states.size() == 1) {
    fail("zoneout_cell: cell '" + config.cell + "' has no state besides h; use zoneout_hidden");
  }
  check_total(config);
}

void check(const ConvConfig& config) {
  if (config.cell != "lstm" && config.cell != "peephole" && config.cell != "gru") {
    fail("cell: expected one of lstm, peephole, gru, got '" + config.cell + "'");
  }
  check_size("channels", config.channels);
  check_size("hidden_channels", config.hidden_channels);
  check_size("height", config.height);
  check_size("width", config.width);
  check_size("kernel_size", config.kernel_size);
  expect(config.kernel_size % 2 == 1, "kernel_size", static_cast<double>(config.kernel_size),
         "an odd integer (an even one has no middle, which \"same\" padding needs)");
  check_size("dilation", config.dilation);
  if (config.num_layers < 1 || config.num_layers > 10000) {
    fail("num_layers: expected an integer from 1 to 10000, got " + std::to_string(config.num_layers));
  }
  check_threads(config.n_threads);
  const auto number = [](std::int64_t value) { return static_cast<double>(value); };
  const double taps = number(config.kernel_size) * number(config.kernel_size);
  const double channels = number(std::max(config.channels, config.hidden_channels)) + number(config.hidden_channels);
  const double weights = number(config.num_layers) * 4.0 * number(config.hidden_channels) * taps * channels;
  const double pixels = number(config.height) * number(config.width);
  if (weights > 1e15 || pixels * channels * number(config.num_layers) * 40.0 > 1e15) {
    fail(
        "channels, hidden_channels, height, width, kernel_size, num_layers: together they need more weights, or images "
        "larger, than can be addressed");
  }
}

void check(const ModelConfig& config) {
  check(config.recurrent);
  check_size("outputs", config.outputs);
  if (config.activation == Activation::softmax && config.outputs < 2) {
    fail("outputs: a softmax head needs at least 2, got " + std::to_string(config.outputs));
  }
  check_pooling(config);
  check_head(config);
  check_quantization(config);
}

void check(const TrainerConfig& config) {
  expect(std::isfinite(config.learning_rate) && config.learning_rate > 0, "learning_rate", config.learning_rate,
         "a number above 0");
  expect(config.huber_delta > 0 && std::isfinite(config.huber_delta), "huber_delta", config.huber_delta,
         "a number above 0");
  expect(config.momentum >= 0 && config.momentum < 1, "momentum", config.momentum, "a number in [0, 1)");
  expect(!config.nesterov || config.momentum > 0, "nesterov", config.momentum, "a momentum above 0 with nesterov");
  expect(config.beta_1 >= 0 && config.beta_1 < 1, "beta_1", config.beta_1, "a number in [0, 1)");
  expect(config.beta_2 >= 0 && config.beta_2 < 1, "beta_2", config.beta_2, "a number in [0, 1)");
  expect(config.rho >= 0 && config.rho < 1, "rho", config.rho, "a number in [0, 1)");
  expect(config.epsilon > 0 && std::isfinite(config.epsilon), "epsilon", config.epsilon, "a number above 0");
  expect(config.alpha >= 0 && std::isfinite(config.alpha), "alpha", config.alpha, "a number of at least 0");
  expect(config.epochs >= 1, "epochs", static_cast<double>(config.epochs), "an integer of at least 1");
  expect(config.schedule_factor > 0 && config.schedule_factor <= 1, "schedule_factor", config.schedule_factor,
         "a number in (0, 1]");
  expect(config.schedule_every >= 1, "schedule_every", static_cast<double>(config.schedule_every),
         "an integer of at least 1");
  expect(config.tolerance >= 0, "tolerance", config.tolerance, "a number of at least 0");
  expect(config.clip_norm >= 0, "clip_norm", config.clip_norm, "0 (off) or a number above 0");
  expect(config.clip_value >= 0, "clip_value", config.clip_value, "0 (off) or a number above 0");
  expect(config.label_smoothing >= 0 && config.label_smoothing < 1, "label_smoothing", config.label_smoothing,
         "a number in [0, 1)");
  expect(config.label_smoothing == 0 || config.loss == Loss::cross_entropy, "label_smoothing", config.label_smoothing,
         "0 with any loss but cross_entropy");
  const bool quantile = config.loss == Loss::quantile;
  if (quantile != !config.quantiles.empty()) {
    fail(quantile
             ? "quantiles: expected at least one level for the loss quantile, got none"
             : "quantiles: expected none with any loss but quantile, got " + std::to_string(config.quantiles.size()));
  }
  for (const double level : config.quantiles) {
    expect(level > 0 && level < 1, "quantiles", level, "levels in (0, 1)");
  }
  expect(config.max_norm >= 0 && std::isfinite(config.max_norm), "max_norm", config.max_norm,
         "0 (off) or a number above 0");
  expect(config.gradient_noise >= 0 && std::isfinite(config.gradient_noise), "gradient_noise", config.gradient_noise,
         "0 (off) or a number above 0");
  expect(config.bptt_steps >= 0, "bptt_steps", static_cast<double>(config.bptt_steps),
         "0 (whole sequences) or an integer of at least 1");
  expect(config.checkpoint_steps >= 0, "checkpoint_steps", static_cast<double>(config.checkpoint_steps),
         "0 (off) or an integer of at least 1");
  expect(config.batch_size >= 1, "batch_size", static_cast<double>(config.batch_size), "an integer of at least 1");
  check_threads(config.n_threads);
}

void check(const Sequences& x, std::int64_t features) {
  if (x.count < 1) fail("x: expected at least one sequence, got " + std::to_string(x.count));
  if (x.data == nullptr || x.lengths == nullptr) fail("x: data and lengths must not be null");
  if (x.features != features) {
    fail("x: expected " + std::to_string(features) + " features, got " + std::to_string(x.features));
  }
  for (std::int64_t n = 0; n < x.count; ++n) {
    if (x.lengths[n] < 1) {
      fail("x: sequence " + std::to_string(n) + " has length " + std::to_string(x.lengths[n]) +
           ", expected at least 1");
    }
    if (x.data[n] == nullptr) fail("x: data of sequence " + std::to_string(n) + " is null");
    if (x.codes == nullptr) continue;
    const std::int32_t* const codes = x.codes[n];
    if (codes == nullptr) fail("x: codes of sequence " + std::to_string(n) + " are null");
    const std::int32_t least = *std::min_element(codes, codes + x.lengths[n]);
    if (least < 0) {
      fail("x: codes of sequence " + std::to_string(n) + ": expected numbers of at least 0, got " +
           std::to_string(least));
    }
  }
}

void check(const Targets& y, const TrainerConfig& config, const ModelConfig& model, std::int64_t count) {
  const bool labels = config.loss == Loss::cross_entropy;
  if ((y.labels != nullptr) != labels || (y.values != nullptr) == labels) {
    fail(labels ? "y: cross_entropy needs labels and no values" : "y: this loss needs values and no labels");
  }
  if (labels) {
    for (std::int64_t n = 0; n < count; ++n) {
      if (y.labels[n] < 0 || y.labels[n] >= model.outputs) {
        fail("y: label of sequence " + std::to_string(n) + ": expected 0 to " + std::to_string(model.outputs - 1) +
             ", got " + std::to_string(y.labels[n]));
      }
    }
  } else {
    for (std::int64_t i = 0; i < count * model.outputs; ++i) {
      if (!std::isfinite(y.values[i])) {
        fail("y: value of sequence " + std::to_string(i / model.outputs) + " is not finite");
      }
    }
  }
  for (std::int64_t n = 0; y.weights != nullptr && n < count; ++n) {
    expect(std::isfinite(y.weights[n]) && y.weights[n] >= 0, "weights", y.weights[n], "finite numbers of at least 0");
  }
}

}  // namespace lstmcore::checks
