// What the edge runtime relies on, looked at once: it checks nothing itself. A program may come from a file.
#include "api/checks.hpp"

#include <lstmcore/edge.hpp>

#include <algorithm>
#include <cmath>
#include <cstdlib>

namespace lstmcore::checks {

namespace {

constexpr std::int64_t kMostUnits = 1 << 16;      // of a layer: offsets and sums stay far from 32 bits
constexpr std::int64_t kMostWeights = 1LL << 28;  // of a matrix
constexpr std::int64_t kSum = (1LL << 31) - 1;
constexpr std::int64_t kMultiplier = (1LL << 30) - 1;
constexpr std::int32_t kFurthest = 1 << 29;  // of sLSTM's stabiliser

std::int64_t padded(std::int64_t count) noexcept { return (count + 3) / 4 * 4; }

void in_range(const std::string& name, std::int64_t value, std::int64_t low, std::int64_t high) {
  if (value >= low && value <= high) return;
  fail(name + ": expected " + std::to_string(low) + " ... " + std::to_string(high) + ", got " + std::to_string(value));
}

void has_count(const std::string& name, std::size_t count, std::int64_t expected) {
  if (static_cast<std::int64_t>(count) == expected) return;
  fail(name + ": expected " + std::to_string(expected) + " elements, got " + std::to_string(count));
}

template <class T>
void finite(const std::string& name, const std::vector<T>& values) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!std::isfinite(values[i])) fail(name + "[" + std::to_string(i) + "]: expected a finite number");
  }
}

std::string one_of(const std::string& name, const std::string& value, std::initializer_list<const char*> known) {
  std::string list;
  for (const char* one : known) {
    if (value == one) return value;
    list += (list.empty() ? "'" : ", '") + std::string(one) + "'";
  }
  fail(name + ": expected one of " + list + ", got '" + value + "'");
}

/// |largest activation| of each column.
using Limits = std::vector<std::int64_t>;

/// Calls add(row, column, weight) for every stored weight of the integer storages.
template <class Add>
void for_weights(const EdgeMatrix& matrix, Add&& add) {
  const std::int64_t blocks = matrix.columns / 4;
  const std::int8_t* w = matrix.weights.data();
  for (std::int64_t group = 0; group < matrix.rows / 4; ++group) {
    const bool sparse = matrix.storage == EdgeStorage::sparse;
    const std::int64_t first = sparse ? matrix.block_starts[static_cast<std::size_t>(group)] : 0;
    const std::int64_t last = sparse ? matrix.block_starts[static_cast<std::size_t>(group) + 1] : blocks;
    for (std::int64_t b = first; b < last; ++b) {
      const std::int64_t column = 4 * (sparse ? matrix.block_columns[static_cast<std::size_t>(b)] : b);
      for (std::int64_t r = 0; r < 4; ++r) {
        for (std::int64_t c = 0; c < 4; ++c) {
          std::int64_t weight = 0;
          if (matrix.storage == EdgeStorage::int4) {
            const int pair = w[4 * (r / 2) + c];
            weight = (r % 2 == 0 ? (pair & 15) - ((pair & 8) != 0 ? 16 : 0) : pair >> 4) * 16;
          } else {
            weight = w[4 * r + c];
          }
          add(4 * group + r, column + c, weight);
        }
      }
      w += matrix.storage == EdgeStorage::int4 ? 8 : 16;
    }
  }
}

void check_blocks(const std::string& name, const EdgeMatrix& matrix) {
  const std::int64_t groups = matrix.rows / 4;
  has_count(name + ".block_starts", matrix.block_starts.size(), groups + 1);
  if (matrix.block_starts.front() != 0) fail(name + ".block_starts: expected 0 first");
  for (std::size_t g = 0; g < static_cast<std::size_t>(groups); ++g) {
    if (matrix.block_starts[g] > matrix.block_starts[g + 1]) fail(name + ".block_starts: expected ascending numbers");
  }
  has_count(name + ".block_columns", matrix.block_columns.size(), matrix.block_starts.back());
  for (const std::uint16_t column : matrix.block_columns) {
    in_range(name + ".block_columns", column, 0, matrix.columns / 4 - 1);
  }
  has_count(name + ".weights", matrix.weights.size(), 16 * static_cast<std::int64_t>(matrix.block_starts.back()));
}

/// rows: padded rows expected; limits: one a column.
void check_matrix(const std::string& name, const EdgeMatrix& matrix, EdgeKind kind, std::int64_t rows,
                  const Limits& limits) {
  const auto columns = static_cast<std::int64_t>(limits.size());
  if (matrix.rows != rows || matrix.columns != columns) {
    fail(name + ": expected " + std::to_string(rows) + " rows and " + std::to_string(columns) +
         " columns (padded to multiples of four), got " + std::to_string(matrix.rows) + " and " +
         std::to_string(matrix.columns));
  }
  if (rows * columns > kMostWeights) fail(name + ": " + std::to_string(rows * columns) + " weights are too many");
  const bool real = kind == EdgeKind::float32;
  if (real != (matrix.storage == EdgeStorage::float32)) {
    fail(name + ".storage: 'float32' goes with kind 'float32' and with no other");
  }
  if (real) {
    has_count(name + ".weights", matrix.float_weights.size(), rows * columns);
    has_count(name + ".bias", matrix.float_bias.size(), rows);
    finite(name + ".weights", matrix.float_weights);
    finite(name + ".bias", matrix.float_bias);
    return;
  }
  if (matrix.storage == EdgeStorage::sparse) {
    check_blocks(name, matrix);
  } else {
    has_count(name + ".weights", matrix.weights.size(),
              matrix.storage == EdgeStorage::int4 ? rows * columns / 2 : rows * columns);
  }
  has_count(name + ".bias", matrix.bias.size(), rows);
  has_count(name + ".multiplier", matrix.multiplier.size(), rows);
  in_range(name + ".shift", matrix.shift, 0, 30);
  std::vector<std::int64_t> most(static_cast<std::size_t>(rows));
  for_weights(matrix, [&](std::int64_t row, std::int64_t column, std::int64_t weight) {
    // −128 (−8 times 16) has no negative in 8 bits, on which fast products rely.
    if (weight == -128) {
      const bool packed = matrix.storage == EdgeStorage::int4;
      fail(name + ".weights: expected " + (packed ? "-7 ... 7, got -8" : "-127 ... 127, got -128"));
    }
    most[static_cast<std::size_t>(row)] += std::abs(weight) * limits[static_cast<std::size_t>(column)];
  });
  for (std::size_t r = 0; r < most.size(); ++r) {
    in_range(name + ".multiplier", matrix.multiplier[r], 0, kMultiplier);
    const std::int64_t sum = most[r] + std::abs(static_cast<std::int64_t>(matrix.bias[r]));
    if (sum > kSum >> matrix.shift) {
      fail(name + ": row " + std::to_string(r) + " can reach a sum of " + std::to_string(sum) + " times 2^" +
           std::to_string(matrix.shift) + ", which does not fit in 32 bits");
    }
  }
}

Limits limits_of(std::initializer_list<std::pair<std::int64_t, std::int64_t>> parts) {
  Limits limits;
  for (const auto& [count, limit] : parts) limits.insert(limits.end(), static_cast<std::size_t>(padded(count)), limit);
  return limits;
}

void check_limit(const std::string& name, std::int64_t limit, EdgeKind kind) {
  if (kind == EdgeKind::int8) in_range(name, limit, 1, 127);
  if (kind == EdgeKind::int16) in_range(name, limit, 128, 32767);
}

/// Scale of activations; from Q15 it is a product of 32 bits.
void check_scale(const std::string& name, EdgeKind kind, bool from_q15, std::int64_t multiplier, std::int64_t shift) {
  if (kind == EdgeKind::float32) return;
  in_range(name + ".output_multiplier", multiplier, 1, from_q15 ? 65535 : kSum);
  in_range(name + ".output_shift", shift, from_q15 ? 15 : 1, from_q15 ? 15 : 62);
}

void check_initial(const std::string& name, const EdgeLayer& layer, EdgeKind kind) {
  const std::int64_t width = padded(layer.hidden);
  const auto optional = [&](const char* part, std::size_t count, std::int64_t columns) {
    if (count != 0) has_count(name + "." + part, count, columns * width);
  };
  const bool slstm = layer.cell == "slstm", gru = layer.cell.rfind("gru", 0) == 0;
  const bool real = kind == EdgeKind::float32;
  std::int64_t columns = layer.cell == "elman" || (gru && real) ? 0 : 1;
  if (slstm) columns = real ? 3 : 2;
  if (real) {
    optional("initial_h", layer.float_initial_h.size(), 1);
    optional("initial_cells", layer.float_initial_cells.size(), columns);
    finite(name + ".initial_h", layer.float_initial_h);
    finite(name + ".initial_cells", layer.float_initial_cells);
    if (!layer.initial_h.empty() || !layer.initial_cells.empty() || !layer.initial_stabilisers.empty()) {
      fail(name + ": integer initial states in a program of float32");
    }
    return;
  }
  if (!layer.float_initial_h.empty() || !layer.float_initial_cells.empty()) {
    fail(name + ": float32 initial states in a program of integers");
  }
  optional("initial_h", layer.initial_h.size(), 1);
  optional("initial_cells", layer.initial_cells.size(), columns);
  optional("initial_stabilisers", layer.initial_stabilisers.size(), slstm ? 1 : 0);
  if (slstm && layer.initial_cells.empty() != layer.initial_stabilisers.empty()) {
    fail(name + ": slstm needs both initial_cells and initial_stabilisers, or neither");
  }
  for (const std::int16_t h : layer.initial_h) in_range(name + ".initial_h", h, -layer.limit, layer.limit);
  for (const std::int16_t c : layer.initial_cells) in_range(name + ".initial_cells", c, -32767, 32767);
  for (const std::int32_t m : layer.initial_stabilisers) {
    in_range(name + ".initial_stabilisers", m, -kFurthest, kFurthest);
  }
  if (slstm && !layer.initial_cells.empty()) {
    for (std::size_t u = 0; u < static_cast<std::size_t>(width); ++u) {
      const int n = layer.initial_cells[static_cast<std::size_t>(width) + u];
      if (n != 0) in_range(name + ".initial_cells: n", n, 16384, 32767);
      if (std::abs(static_cast<int>(layer.initial_cells[u])) > n) fail(name + ".initial_cells: expected |c| <= n");
    }
  }
}

void check_layer(const std::string& name, const EdgeLayer& layer, EdgeKind kind, std::int64_t inputs,
                 std::int64_t input_limit) {
  one_of(name + ".cell", layer.cell, {"elman", "lstm", "gru", "gru_reset_before", "slstm"});
  for (const std::string& option : layer.options) {
    const bool lstm = option == "coupled" || option == "peepholes";
    one_of(name + ".options", option, {"coupled", "peepholes", "relu", "exponential_forget"});
    const char* const owner = lstm ? "lstm" : option == "relu" ? "elman" : "slstm";
    if (layer.cell != owner) fail(name + ".options: '" + option + "' is of cell '" + owner + "'");
  }
  const auto option = [&](const char* wanted) {
    return std::find(layer.options.begin(), layer.options.end(), wanted) != layer.options.end();
  };
  in_range(name + ".hidden", layer.hidden, 1, kMostUnits);
  if (layer.inputs != inputs) {
    fail(name + ".inputs: expected " + std::to_string(inputs) + ", got " + std::to_string(layer.inputs));
  }
  check_limit(name + ".limit", layer.limit, kind);
  check_scale(name, kind, !option("relu"), layer.output_multiplier, layer.output_shift);
  const std::int64_t h = layer.hidden, width = padded(h), out = kind == EdgeKind::float32 ? 0 : layer.limit;
  const Limits x = limits_of({{inputs, input_limit}}), recurrent = limits_of({{h, out}});
  const Limits both = limits_of({{inputs, input_limit}, {h, out}});
  std::vector<std::pair<std::int64_t, const Limits*>> expected;  // gates, columns
  if (layer.cell == "elman") expected = {{1, &both}};
  if (layer.cell == "lstm") expected = {{option("coupled") ? 3 : 4, &both}};
  if (layer.cell == "slstm") expected = {{4, &both}};
  if (layer.cell == "gru") expected = {{2, &both}, {1, &x}, {1, &recurrent}};
  if (layer.cell == "gru_reset_before") expected = {{1, &both}, {1, &both}, {1, &x}, {1, &recurrent}};
  has_count(name + ".matrices", layer.matrices.size(), static_cast<std::int64_t>(expected.size()));
  for (std::size_t m = 0; m < expected.size(); ++m) {
    check_matrix(name + ".matrices[" + std::to_string(m) + "]", layer.matrices[m], kind, expected[m].first * width,
                 *expected[m].second);
  }
  const std::size_t peepholes = kind == EdgeKind::float32 ? layer.float_peepholes.size() : layer.peepholes.size();
  const std::size_t foreign = kind == EdgeKind::float32 ? layer.peepholes.size() : layer.float_peepholes.size();
  has_count(name + ".peepholes", peepholes, option("peepholes") ? 3 * width : 0);
  has_count(name + ".peepholes of the other kind", foreign, 0);
  finite(name + ".peepholes", layer.float_peepholes);
  if (kind != EdgeKind::float32) {
    in_range(name + ".cell_bits", layer.cell_bits, 4, 15);
    if (option("peepholes")) in_range(name + ".peephole_bits", layer.peephole_bits, 13 - layer.cell_bits, 15);
  }
  check_initial(name, layer, kind);
}

}  // namespace

void check(const EdgeProgram& program) {
  in_range("directions", program.directions, 1, 2);
  one_of("pooling", program.pooling, {"last", "mean", "max", "none"});
  in_range("centre", static_cast<std::int64_t>(program.centre.size()), 1, kMostUnits);
  has_count("scale", program.scale.size(), static_cast<std::int64_t>(program.centre.size()));
  finite("centre", program.centre);
  finite("scale", program.scale);
  check_limit("input_limit", program.input_limit, program.kind);
  const auto directions = static_cast<std::size_t>(program.directions);
  if (program.layers.empty() || program.layers.size() % directions != 0 || program.layers.size() > 1024) {
    fail("layers: expected 1 ... 1024, a multiple of directions, got " + std::to_string(program.layers.size()));
  }
  std::int64_t inputs = static_cast<std::int64_t>(program.centre.size()), limit = program.input_limit;
  const std::int64_t hidden = program.layers.front().hidden;
  for (std::size_t l = 0; l < program.layers.size(); ++l) {
    const EdgeLayer& layer = program.layers[l];
    const std::string name = "layers[" + std::to_string(l) + "]";
    check_layer(name, layer, program.kind, inputs, program.kind == EdgeKind::float32 ? 0 : limit);
    // Rows of buffers, and what both directions share, are one width for all.
    if (directions == 2 && layer.hidden != hidden) fail(name + ".hidden: expected that of the first layer");
    if (l % directions != 0 && layer.limit != program.layers[l - 1].limit) {
      fail(name + ".limit: expected that of the other direction, " + std::to_string(program.layers[l - 1].limit));
    }
    if ((l + 1) % directions == 0) {
      inputs = program.directions * layer.hidden;
      limit = layer.limit;
    }
  }
  if (program.dense.empty() || program.dense.size() > 64) fail("dense: expected 1 ... 64 layers");
  for (std::size_t l = 0; l < program.dense.size(); ++l) {
    const EdgeDense& dense = program.dense[l];
    const std::string name = "dense[" + std::to_string(l) + "]";
    const bool last = l + 1 == program.dense.size();
    in_range(name + ".outputs", dense.outputs, 1, kMostUnits - 1);
    if (last) {
      one_of(name + ".activation", dense.activation, {"linear"});
    } else {
      one_of(name + ".activation", dense.activation, {"relu", "tanh", "selu"});
      check_limit(name + ".limit", dense.limit, program.kind);
      check_scale(name, program.kind, false, dense.output_multiplier, dense.output_shift);
    }
    check_matrix(name + ".matrix", dense.matrix, program.kind, padded(dense.outputs),
                 limits_of({{inputs, program.kind == EdgeKind::float32 ? 0 : limit}}));
    inputs = dense.outputs;
    limit = dense.limit;
  }
}

}  // namespace lstmcore::checks
