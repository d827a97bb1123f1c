// Where each weight lies in the flat parameter buffer, and its packed form.
#pragma once

#include "base/threads.hpp"
#include "sequence/direction.hpp"

#include <lstmcore/recurrent.hpp>

#include <string>

LSTMCORE_BEGIN_NAMESPACE

/// Sizes of a stack of recurrent layers.
struct StackShape {
  std::int64_t input = 0;
  std::int64_t hidden = 0;
  std::int64_t layers = 0;
  int directions = 1;
  int gates = 0;

  explicit StackShape(const RecurrentConfig& config, int gate_count)
      : input(config.input_size),
        hidden(config.hidden_size),
        layers(config.num_layers),
        directions(config.bidirectional ? 2 : 1),
        gates(gate_count) {}

  std::int64_t layer_input(std::int64_t layer) const noexcept { return layer == 0 ? input : directions * hidden; }
  std::int64_t gate_rows() const noexcept { return gates * hidden; }
  std::int64_t slots() const noexcept { return layers * directions; }  ///< (layer, direction) pairs
};

/// W, R, b of every layer and direction, in order.
inline std::vector<TensorInfo> recurrent_tensors(const StackShape& shape) {
  std::vector<TensorInfo> tensors;
  std::int64_t offset = 0;
  const auto add = [&](const std::string& name, std::vector<std::int64_t> extents) {
    tensors.push_back({name, std::move(extents), offset});
    offset += tensors.back().count();
  };
  for (std::int64_t layer = 0; layer < shape.layers; ++layer) {
    for (int direction = 0; direction < shape.directions; ++direction) {
      const std::string suffix = "_l" + std::to_string(layer) + (direction == 1 ? "_reverse" : "");
      add("W" + suffix, {shape.gate_rows(), shape.layer_input(layer)});
      add("R" + suffix, {shape.gate_rows(), shape.hidden});
      add("b" + suffix, {shape.gate_rows()});
    }
  }
  return tensors;
}

inline std::int64_t total_count(const std::vector<TensorInfo>& tensors) noexcept {
  return tensors.empty() ? 0 : tensors.back().offset + tensors.back().count();
}

/// Offsets of one slot's tensors.
struct SlotOffsets {
  std::int64_t input, recurrent, bias;

  SlotOffsets(const StackShape& shape, std::int64_t layer, int direction) noexcept {
    const auto slot_size = [&](std::int64_t l) {
      return shape.gate_rows() * (shape.layer_input(l) + shape.hidden + 1);
    };
    input = layer == 0 ? 0 : shape.directions * (slot_size(0) + (layer - 1) * slot_size(1));
    input += direction * slot_size(layer);
    recurrent = input + shape.gate_rows() * shape.layer_input(layer);
    bias = recurrent + shape.gate_rows() * shape.hidden;
  }
};

/// All weights in the order of the register tiles, for forward.
template <class T, int kGates>
class PackedWeights {
 public:
  void allocate(const StackShape& shape) {
    arena_.reset();
    slots_.assign(static_cast<std::size_t>(shape.slots()), {});
    const std::int64_t hp = padded<T>(shape.hidden);
    for (std::int64_t i = 0; i < shape.slots(); ++i) {
      PackedDirection<T>& slot = slots_[static_cast<std::size_t>(i)];
      slot.input = arena_.take<T>(kGates * hp * shape.layer_input(i / shape.directions));
      slot.recurrent = arena_.take<T>(kGates * hp * shape.hidden);
      slot.bias = arena_.take<T>(kGates * hp);
    }
  }

  void pack(const StackShape& shape, const T* parameters, Member member) noexcept {
    for (std::int64_t i = 0; i < shape.slots(); ++i) {
      const std::int64_t layer = i / shape.directions;
      const PackedDirection<T>& slot = slots_[static_cast<std::size_t>(i)];
      const SlotOffsets at(shape, layer, static_cast<int>(i % shape.directions));
      const std::int64_t depth = shape.layer_input(layer);
      const Member::Range range = member.share(blocks_of<T>(shape.hidden));
      for (std::int64_t b = range.begin; b < range.end; ++b) {
        pack_gate_panel<T, kGates>(parameters + at.input, depth, shape.hidden, depth, b,
                                   slot.input + b * depth * kGates * kLanes<T>);
        pack_gate_panel<T, kGates>(parameters + at.recurrent, shape.hidden, shape.hidden, shape.hidden, b,
                                   slot.recurrent + b * shape.hidden * kGates * kLanes<T>);
      }
      if (member.id == 0) pack_gate_vector<T>(parameters + at.bias, kGates, shape.hidden, slot.bias);
    }
  }

  const PackedDirection<T>& slot(std::int64_t index) const noexcept { return slots_[static_cast<std::size_t>(index)]; }
  bool allocated() const noexcept { return !slots_.empty(); }

 private:
  Arena arena_;
  std::vector<PackedDirection<T>> slots_;
};

/// One slot's weights packed for backward.
template <class T, int kGates>
class BackPacking {
 public:
  /// Room for the panels; those of the first layer's input only when dx is wanted.
  static BackPanels<T> allocate(const StackShape& shape, std::int64_t layer, bool input_gradient, Arena& arena) {
    const std::int64_t depth = kGates * padded<T>(shape.hidden);
    const auto take = [&](std::int64_t columns) {
      const std::int64_t blocks = blocks_of<T>(columns);
      return Panels<T>{arena.take<T>(Panels<T>::size(depth, blocks)), depth, blocks};
    };
    BackPanels<T> back;
    back.recurrent = take(shape.hidden);
    if (layer > 0) {
      for (std::size_t s = 0; s < static_cast<std::size_t>(shape.directions); ++s) back.input[s] = take(shape.hidden);
    } else if (input_gradient) {
      back.input[0] = take(shape.input);
    }
    return back;
  }

  static void pack(const StackShape& shape, std::int64_t layer, int direction, const T* parameters,
                   const BackPanels<T>& back, Member member) noexcept {
    const SlotOffsets at(shape, layer, direction);
    fill(back.recurrent, parameters + at.recurrent, shape.hidden, shape.hidden, shape.hidden, member);
    std::int64_t column = 0;
    for (const Panels<T>& panels : back.input) {
      if (panels.data == nullptr) continue;
      const std::int64_t columns = layer == 0 ? shape.input : shape.hidden;
      fill(panels, parameters + at.input + column, shape.layer_input(layer), shape.hidden, columns, member);
      column += columns;
    }
  }

 private:
  static void fill(const Panels<T>& panels, const T* w, std::int64_t ldw, std::int64_t hidden, std::int64_t columns,
                   Member member) noexcept {
    const Member::Range range = member.share(panels.count());
    for (std::int64_t p = range.begin; p < range.end; ++p) {
      pack_back_panel<T, kGates>(w, ldw, hidden, columns, panels.column(p), panels.packs(p), panels.panel(p));
    }
  }
};

LSTMCORE_END_NAMESPACE
