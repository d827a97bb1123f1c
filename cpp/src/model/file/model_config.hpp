// The architecture as JSON: the "model" entry of a model file's metadata (docs/model-file.md).
#pragma once

#include <lstmcore/model.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace lstmcore::file {

class Json;

/// n_threads is left out: it belongs to the machine that runs a model. Throws FileError for numbers that are not
/// finite.
Json config_to_json(const ModelConfig& config);

/// Throws FileError, naming the entry, for anything missing, unknown or of the wrong kind. That the values make a
/// model together (options of the cell, range of dropout) is for Model's constructor to check.
ModelConfig config_from_json(const Json& json);

/// Shape of one tensor that a model file must hold.
struct ExpectedTensor {
  std::string name;
  std::vector<std::int64_t> shape;
};

/// Visits W, R and b of every layer and direction, head_W and head_b, with the shapes that `config` leads to. They
/// exist so that a file is known to hold what the model will allocate before it allocates. visit(ExpectedTensor) throws
/// when it does not find one, which bounds the work that a hostile num_layers can ask for.
/// A cell whose W, R or b has another shape needs its line in the implementation.
/// Throws FileError for an unknown cell and for sizes beyond 64 bits.
template <class Visitor>
void visit_core_tensors(const ModelConfig& config, Visitor&& visit);

/// Number of gates of a cell; throws FileError for an unknown one.
std::int64_t gate_count(const std::string& cell);

/// a·b; throws FileError beyond 63 bits.
std::int64_t checked_product(std::int64_t a, std::int64_t b);

template <class Visitor>
void visit_core_tensors(const ModelConfig& config, Visitor&& visit) {
  const RecurrentConfig& r = config.recurrent;
  const std::int64_t rows = checked_product(gate_count(r.cell), r.hidden_size);
  const std::int64_t features = checked_product(r.bidirectional ? 2 : 1, r.hidden_size);
  for (std::int64_t layer = 0; layer < r.num_layers; ++layer) {
    for (int direction = 0; direction < (r.bidirectional ? 2 : 1); ++direction) {
      const std::string suffix = "_l" + std::to_string(layer) + (direction == 1 ? "_reverse" : "");
      visit(ExpectedTensor{"W" + suffix, {rows, layer == 0 ? r.input_size : features}});
      visit(ExpectedTensor{"R" + suffix, {rows, r.hidden_size}});
      visit(ExpectedTensor{"b" + suffix, {rows}});
    }
  }
  visit(ExpectedTensor{"head_W", {config.outputs, features}});
  visit(ExpectedTensor{"head_b", {config.outputs}});
}

}  // namespace lstmcore::file
