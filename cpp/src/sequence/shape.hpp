// Sizes of a stack of recurrent layers, and where each of its tensors lies in the flat parameter buffer.
#pragma once

#include "sequence/cell_spec.hpp"

#include <lstmcore/recurrent.hpp>

LSTMCORE_BEGIN_NAMESPACE

struct StackShape {
  std::int64_t input = 0;
  std::int64_t hidden = 0;
  std::int64_t output = 0;  ///< width of h: the projection's, else H
  std::int64_t layers = 0;
  int directions = 1;
  int gates = 0;
  bool reversed = false;  ///< the only direction is the reverse one
  bool learns_initial_state = false;
  bool int8 = false;  ///< W and R in 8 bits, activations rounded as they come; float32, inference
  bool bf16 = false;  ///< operands of products rounded to bf16 (kernels/bf16.hpp); float32
  CellSpec cell;

  explicit StackShape(const RecurrentConfig& config, bool in_int8 = false)
      : input(config.input_size),
        hidden(config.hidden_size),
        layers(config.num_layers),
        directions(config.bidirectional ? 2 : 1),
        reversed(config.reverse),
        learns_initial_state(config.learn_initial_state),
        int8(in_int8),
        bf16(config.precision == Precision::bfloat16),
        cell(cell_spec(config)) {
    output = cell.projection > 0 ? cell.projection : hidden;
    if (cell.blocks()) layers *= static_cast<std::int64_t>(cell.pattern.size());
    gates = cell.gates;
  }

  std::int64_t layer_input(std::int64_t layer) const noexcept { return layer == 0 ? input : directions * output; }
  /// Parts that a layer's input comes in, each by itself in memory.
  int segments(std::int64_t layer) const noexcept { return layer == 0 ? 1 : directions; }
  /// Whether what feeds R is a rounded copy of h.
  bool rounds_fed() const noexcept { return bf16 && cell.recurrent; }
  /// Whether a direction runs from the end of a sequence to its start.
  bool runs_backwards(int direction) const noexcept { return reversed || direction == 1; }
  std::int64_t slots() const noexcept { return layers * directions; }  ///< (layer, direction) pairs
  std::int64_t gate_rows() const noexcept { return gates * hidden; }
  /// Columns of R as the kernels see it: h, then the states that feed back.
  std::int64_t fed_width() const noexcept { return output + static_cast<std::int64_t>(cell.feedback) * hidden; }
  /// First of the states (counted without h) that feed back.
  std::size_t first_feedback() const noexcept { return cell.states - cell.feedback; }

  /// Rows that a gate has in the user's tensors, and the user's row of one unit of it.
  std::int64_t user_gate_rows(int gate) const noexcept {
    return cell.shared[static_cast<std::size_t>(gate)] ? hidden / cell.block_size : hidden;
  }
  std::int64_t user_rows() const noexcept {
    std::int64_t rows = 0;
    for (int gate = 0; gate < gates; ++gate) rows += user_gate_rows(gate);
    return rows;
  }
  std::int64_t user_row(int gate, std::int64_t unit) const noexcept {
    std::int64_t row = 0;
    for (int before = 0; before < gate; ++before) row += user_gate_rows(before);
    return row + (cell.shared[static_cast<std::size_t>(gate)] ? unit / cell.block_size : unit);
  }

  /// Of a layer that is a block.
  BlockSizes block_sizes(std::int64_t layer) const noexcept {
    BlockSizes sizes;
    sizes.kind = cell.pattern[static_cast<std::size_t>(layer) % cell.pattern.size()];
    sizes.input = layer_input(layer);
    sizes.hidden = hidden;
    sizes.heads = cell.heads;
    sizes.groups = layer == 0 ? 1 : directions;
    sizes.projects = layer == 0 || directions > 1;
    sizes.last = layer + 1 == layers;
    return sizes;
  }

  /// Width of a state in the caller's arrays; 0 is h.
  std::int64_t state_width(std::size_t index) const noexcept {
    if (cell.blocks()) return cell.state_widths[index];
    if (index == 0) return output;
    return index - 1 >= first_feedback() ? hidden / cell.block_size : hidden;
  }
};

/// Offsets of one slot's tensors in the parameter buffer; −1 where the cell has no such tensor.
struct SlotTensors {
  std::int64_t W = -1, R = -1, RG = -1, b = -1, bR = -1, vectors = -1, proj = -1;
  std::int64_t ln_x = -1, ln_r = -1, ln_c = -1, ln_c_b = -1;
  std::array<std::int64_t, kMaxStates + 1> initial{-1, -1, -1, -1, -1};
};

inline std::int64_t total_count(const std::vector<TensorInfo>& tensors) noexcept {
  return tensors.empty() ? 0 : tensors.back().offset + tensors.back().count();
}

/// All tensors of a stack in order: of layer 0 forward, then reverse, then of layer 1.
/// slots, blocks: where they lie, of cells that run step by step and of blocks.
inline std::vector<TensorInfo> recurrent_tensors(const StackShape& shape, std::vector<SlotTensors>* slots = nullptr,
                                                 std::vector<BlockTensors>* blocks = nullptr) {
  std::vector<TensorInfo> tensors;
  std::int64_t offset = 0;
  const CellSpec& cell = shape.cell;
  for (std::int64_t slot = 0; slot < shape.slots(); ++slot) {
    const std::int64_t layer = slot / shape.directions;
    const std::string suffix = "_l" + std::to_string(layer) + (slot % shape.directions == 1 ? "_reverse" : "");
    const auto add = [&](const std::string& name, std::vector<std::int64_t> extents) {
      tensors.push_back({name + suffix, std::move(extents), offset});
      const std::int64_t at = offset;
      offset += tensors.back().count();
      return at;
    };
    SlotTensors at;
    if (cell.blocks()) {
      const BlockTensors of_block = block_tensors(shape.block_sizes(layer), add);
      if (blocks != nullptr) blocks->push_back(of_block);
      if (slots != nullptr) slots->push_back(at);
      continue;
    }
    const std::int64_t rows = shape.user_rows();
    const auto fed = static_cast<std::int64_t>(cell.feedback);
    at.W = add("W", {rows, shape.layer_input(layer)});
    if (cell.recurrent) {
      const bool own = !cell.feedback_name.empty();
      const std::int64_t columns = shape.output / cell.heads + (own ? 0 : fed * (shape.hidden / cell.block_size));
      at.R = add("R", {rows, columns});
      if (own) at.RG = add(cell.feedback_name, {fed * shape.hidden, fed * shape.hidden});
    }
    at.b = add("b", {rows});
    if (cell.recurrent_bias) at.bR = add("bR", {rows});
    if (cell.vectors == 1) {
      at.vectors = add(cell.vector_name, {shape.hidden});
    } else if (cell.vectors > 1) {
      at.vectors = add(cell.vector_name, {static_cast<std::int64_t>(cell.vectors), shape.hidden});
    }
    if (cell.projection > 0) at.proj = add("proj", {cell.projection, shape.hidden});
    if (cell.normalised) {
      at.ln_x = add("ln_x", {rows});
      at.ln_r = add("ln_r", {rows});
    }
    if (cell.normalised_state) {
      at.ln_c = add("ln_c", {shape.hidden});
      at.ln_c_b = add("ln_c_b", {shape.hidden});
    }
    if (shape.learns_initial_state) {
      for (std::size_t s = 0; s <= cell.states; ++s) {
        at.initial[s] = add(cell.state_names[s] + "0", {shape.state_width(s)});
      }
    }
    if (slots != nullptr) slots->push_back(at);
  }
  return tensors;
}

LSTMCORE_END_NAMESPACE
