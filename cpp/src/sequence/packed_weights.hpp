// Weights in the order of the register tiles: for forward, and for the gradients that flow back.
#pragma once

#include "base/arena.hpp"
#include "base/threads.hpp"
#include "kernels/int8_product.hpp"
#include "sequence/expansion.hpp"

LSTMCORE_BEGIN_NAMESPACE

/// Columns of h that a block of units reads, and blocks of units that read some columns of h: all of them, or with
/// heads those of the same heads.
struct HeadRange {
  std::int64_t first, last;
};
template <class T>
HeadRange columns_of_block(const StackShape& shape, std::int64_t block) noexcept {
  if (shape.cell.heads == 1) return {0, shape.output};
  const std::int64_t width = shape.output / shape.cell.heads;
  const std::int64_t first = block * kLanes<T>;
  const std::int64_t last = std::min(shape.hidden, first + kLanes<T>) - 1;
  return {first / width * width, (last / width + 1) * width};
}
template <class T>
HeadRange blocks_of_columns(const StackShape& shape, std::int64_t first, std::int64_t last) noexcept {
  if (shape.cell.heads == 1) return {0, blocks_of<T>(shape.hidden)};
  const std::int64_t width = shape.output / shape.cell.heads;
  const std::int64_t first_unit = first / width * width;
  const std::int64_t last_unit = std::min(shape.hidden, ((last - 1) / width + 1) * width);
  return {first_unit / kLanes<T>, blocks_of<T>(last_unit)};
}

/// Rows of a panel of W.
inline std::int64_t input_rows(const StackShape& shape, std::int64_t layer) noexcept {
  const int segments = shape.segments(layer);
  return segments * panel_rows(shape.bf16, shape.layer_input(layer) / segments);
}

/// Panels hold pairs of rows where StackShape::bf16 says so: input, recurrent, recurrent_last, projection.
template <class T>
struct PackedDirection {
  T* input = nullptr;                      ///< gate panels, depth = all input segments
  T* recurrent = nullptr;                  ///< gate panels, depth = fed width; reset-before: without the last gate
  T* recurrent_last = nullptr;             ///< reset-before: the last gate alone
  Int8Panels input8, recurrent8;           ///< instead of input and recurrent in a stack of 8-bit weights
  T* bias = nullptr;                       ///< block order
  T* recurrent_bias = nullptr;             ///< block order; separate cells
  T* vectors = nullptr;                    ///< [blocks][vectors][W]
  T* projection = nullptr;                 ///< panels one pack wide, depth = H
  T *gain_x = nullptr, *gain_r = nullptr;  ///< block order
  T *gain_state = nullptr, *shift_state = nullptr;  ///< [Hp]
};

/// All weights of a stack, for forward.
template <class T>
class PackedWeights {
 public:
  void allocate(const StackShape& shape) {
    arena_.reset();
    slots_.assign(static_cast<std::size_t>(shape.slots()), {});
    rooms_.assign(slots_.size(), nullptr);
    const CellSpec& cell = shape.cell;
    const std::int64_t hp = padded<T>(shape.hidden);
    const std::int64_t width = shape.gates * hp;
    for (std::int64_t i = 0; i < shape.slots(); ++i) {
      PackedDirection<T>& slot = slots_[static_cast<std::size_t>(i)];
      const std::int64_t layer = i / shape.directions;
      if (shape.int8) {
        slot.input8 = take_int8(shape, shape.layer_input(layer));
        slot.recurrent8 = take_int8(shape, shape.fed_width());
      } else {
        slot.input = arena_.take<T>(width * input_rows(shape, layer));
        if (cell.recurrent) slot.recurrent = arena_.take<T>(width * panel_rows(shape.bf16, shape.fed_width()));
      }
      if (cell.reset_before) slot.recurrent_last = arena_.take<T>(width * panel_rows(shape.bf16, shape.fed_width()));
      slot.bias = arena_.take<T>(width);
      if (cell.recurrent_bias) slot.recurrent_bias = arena_.take<T>(width);
      if (cell.vectors > 0) slot.vectors = arena_.take<T>(static_cast<std::int64_t>(cell.vectors) * hp);
      if (cell.projection > 0) {
        slot.projection = arena_.take<T>(padded<T>(shape.output) * panel_rows(shape.bf16, shape.hidden));
      }
      if (cell.normalised) {
        slot.gain_x = arena_.take<T>(width);
        slot.gain_r = arena_.take<T>(width);
      }
      if (cell.normalised_state) {
        slot.gain_state = arena_.take<T>(hp);
        slot.shift_state = arena_.take<T>(hp);
      }
      const std::int64_t room = Expansion<T>::size(shape, layer);
      if (room > 0) rooms_[static_cast<std::size_t>(i)] = arena_.take<T>(room);
    }
  }

  /// First part, of every member; all must have done it before any calls pack().
  void expand(const StackShape& shape, const std::vector<SlotTensors>& tensors, const T* parameters,
              Member member) noexcept {
    for (std::int64_t i = 0; i < shape.slots(); ++i) {
      const auto slot = static_cast<std::size_t>(i);
      Expansion<T>::expand(shape, i / shape.directions, tensors[slot], parameters, rooms_[slot], member);
    }
  }

  void pack(const StackShape& shape, const std::vector<SlotTensors>& tensors, const T* parameters,
            Member member) noexcept {
    const CellSpec& cell = shape.cell;
    const int gates = shape.gates;
    const std::int64_t hidden = shape.hidden;
    const std::int64_t fed = shape.fed_width();
    const unsigned all = cell.all_gates();
    for (std::int64_t i = 0; i < shape.slots(); ++i) {
      const auto index = static_cast<std::size_t>(i);
      const std::int64_t layer = i / shape.directions;
      const PackedDirection<T>& slot = slots_[index];
      const SlotTensors& at = tensors[index];
      const auto given = Expansion<T>::template view<const T>(shape, layer, at, parameters, rooms_[index]);
      const std::int64_t depth = shape.layer_input(layer);
      const std::int64_t row = gates * kLanes<T>;
      const Member::Range range = member.share(blocks_of<T>(hidden));
      for (std::int64_t b = range.begin; b < range.end; ++b) {
        if constexpr (std::is_same_v<T, float>) {
          if (shape.int8) {
            pack_int8(shape, b, given.W, depth, {0, depth}, slot.input8);
            pack_int8(shape, b, given.R, fed, columns_of_block<T>(shape, b), slot.recurrent8);
            continue;
          }
        }
        const std::int64_t part = depth / shape.segments(layer);
        for (int s = 0; s < shape.segments(layer); ++s) {
          pack_panel(shape, gates, all, given.W + s * part, depth, hidden, part, b,
                     slot.input + (b * input_rows(shape, layer) + s * panel_rows(shape.bf16, part)) * row);
        }
        if (!cell.recurrent) continue;
        const HeadRange h = columns_of_block<T>(shape, b);
        const std::int64_t columns = cell.heads == 1 ? fed : h.last - h.first;
        const std::int64_t distance = panel_rows(shape.bf16, fed) * row;
        pack_panel(shape, cell.reset_before ? gates - 1 : gates, all, given.R + h.first, fed, hidden, columns, b,
                   slot.recurrent + b * distance);
        if (cell.reset_before) {
          pack_panel(shape, 1, 1U, given.R + (gates - 1) * hidden * fed, fed, hidden, columns, b,
                     slot.recurrent_last + b * distance);
        }
      }
      if (cell.projection > 0) {
        const Member::Range blocks = member.share(blocks_of<T>(shape.output));
        for (std::int64_t b = blocks.begin; b < blocks.end; ++b) {
          pack_panel(shape, 1, 1U, parameters + at.proj, hidden, shape.output, hidden, b,
                     slot.projection + b * panel_rows(shape.bf16, hidden) * kLanes<T>);
        }
      }
      if (member.id != 0) continue;
      pack_gate_vector<T>(given.b, gates, hidden, slot.bias);
      if (cell.recurrent_bias) pack_gate_vector<T>(parameters + at.bR, gates, hidden, slot.recurrent_bias);
      if (cell.vectors > 0) {
        pack_gate_vector<T>(parameters + at.vectors, static_cast<int>(cell.vectors), hidden, slot.vectors);
      }
      if (cell.normalised) {
        pack_gate_vector<T>(parameters + at.ln_x, gates, hidden, slot.gain_x);
        pack_gate_vector<T>(parameters + at.ln_r, gates, hidden, slot.gain_r);
      }
      if (cell.normalised_state) {
        pack_gate_vector<T>(parameters + at.ln_c, 1, hidden, slot.gain_state);
        pack_gate_vector<T>(parameters + at.ln_c_b, 1, hidden, slot.shift_state);
      }
    }
  }

  const PackedDirection<T>& slot(std::int64_t index) const noexcept { return slots_[static_cast<std::size_t>(index)]; }
  bool allocated() const noexcept { return !slots_.empty() || blocks_ != nullptr; }

  /// Of layers that are blocks: all in one piece, which they cut themselves.
  void allocate_blocks(std::int64_t size) {
    arena_.reset();
    blocks_ = arena_.take<T>(size);
  }
  T* blocks() const noexcept { return blocks_; }

 private:
  static void pack_panel(const StackShape& shape, int gates, unsigned present, const T* w, std::int64_t ldw,
                         std::int64_t hidden, std::int64_t depth, std::int64_t block, T* panel) noexcept {
    if (shape.bf16) return bf16::pack_gate_panel<T>(gates, present, w, ldw, hidden, depth, block, panel);
    pack_gate_panel<T>(gates, present, w, ldw, hidden, depth, block, panel);
  }

  Int8Panels take_int8(const StackShape& shape, std::int64_t depth) {
    const std::int64_t blocks = blocks_of<T>(shape.hidden);
    const std::int64_t width = blocks * shape.gates * kLanes<T>;
    return {arena_.take<std::int8_t>(blocks * Int8Panels::block_size(shape.gates, depth)), arena_.take<float>(width),
            arena_.take<std::int32_t>(width)};
  }
  /// One block of rows of `columns` weights, of which it reads those of `range`.
  static void pack_int8(const StackShape& shape, std::int64_t block, const float* w, std::int64_t columns,
                        HeadRange range, const Int8Panels& to) noexcept {
    const std::int64_t at = block * shape.gates * kLanes<T>;
    pack_int8_panel(shape.gates, w, columns, shape.hidden, range.first, range.last - range.first, block,
                    to.weights + block * Int8Panels::block_size(shape.gates, columns), to.scale + at,
                    to.minus_sums + at);
  }

  Arena arena_;
  std::vector<PackedDirection<T>> slots_;
  std::vector<T*> rooms_;
  T* blocks_ = nullptr;
};

/// One slot's weights as backward multiplies with them. Depth: gate columns in block order. In bf16 they are rounded
/// and take as much room as others: backward reads each once for a whole batch.
template <class T>
struct BackPanels {
  std::array<Panels<T>, 2> input{};              ///< one per input segment; empty where that gradient is not wanted
  Panels<T> recurrent{};                         ///< columns of h; reset-before: without the last gate
  Panels<T> recurrent_last{};                    ///< reset-before: the last gate alone
  std::array<Panels<T>, kMaxStates> feedback{};  ///< by feedback state
  Panels<T> projection{};                        ///< columns H, depth = padded(P)
  T* room = nullptr;                             ///< expanded weights
};

template <class T>
class BackPacking {
 public:
  /// Room for the panels; those of the first layer's input only when dx is wanted.
  static BackPanels<T> allocate(const StackShape& shape, std::int64_t layer, bool input_gradient, Arena& arena) {
    const CellSpec& cell = shape.cell;
    const auto take = [&arena](std::int64_t depth, std::int64_t columns) {
      const std::int64_t blocks = blocks_of<T>(columns);
      return Panels<T>{arena.take<T>(Panels<T>::size(depth, blocks)), depth, blocks};
    };
    const std::int64_t depth = shape.gates * padded<T>(shape.hidden);
    BackPanels<T> back;
    if (cell.recurrent && !cell.truncated) {
      back.recurrent = take(depth, shape.output);
      if (cell.reset_before) back.recurrent_last = take(depth, shape.output);
      for (std::size_t k = 0; k < cell.feedback; ++k) back.feedback[k] = take(depth, shape.hidden);
    }
    if (layer > 0) {
      for (std::size_t s = 0; s < static_cast<std::size_t>(shape.directions); ++s) {
        back.input[s] = take(depth, shape.output);
      }
    } else if (input_gradient) {
      back.input[0] = take(depth, shape.input);
    }
    if (cell.projection > 0) back.projection = take(padded<T>(shape.output), shape.hidden);
    const std::int64_t room = Expansion<T>::size(shape, layer);
    if (room > 0) back.room = arena.take<T>(room);
    return back;
  }

  /// Second part; Expansion::expand into back.room must be done.
  static void pack(const StackShape& shape, std::int64_t layer, const SlotTensors& at, const T* parameters,
                   const BackPanels<T>& back, Member member) noexcept {
    const auto given = Expansion<T>::template view<const T>(shape, layer, at, parameters, back.room);
    const CellSpec& cell = shape.cell;
    const unsigned all = cell.all_gates();
    const unsigned last_gate = 1U << (shape.gates - 1);
    const std::int64_t fed = shape.fed_width();
    if (back.recurrent.data != nullptr) {
      fill(shape, cell.reset_before ? all & ~last_gate : all, back.recurrent, given.R, fed, shape.output,
           cell.heads > 1, member);
      if (cell.reset_before) fill(shape, last_gate, back.recurrent_last, given.R, fed, shape.output, false, member);
      for (std::size_t k = 0; k < cell.feedback; ++k) {
        fill(shape, all, back.feedback[k], given.R + shape.output + static_cast<std::int64_t>(k) * shape.hidden, fed,
             shape.hidden, false, member);
      }
    }
    std::int64_t column = 0;
    for (const Panels<T>& panels : back.input) {
      if (panels.data == nullptr) continue;
      const std::int64_t columns = layer == 0 ? shape.input : shape.output;
      fill(shape, all, panels, given.W + column, shape.layer_input(layer), columns, false, member);
      column += columns;
    }
    if (cell.projection > 0) {
      const Panels<T>& panels = back.projection;
      const Member::Range range = member.share(panels.count());
      for (std::int64_t p = range.begin; p < range.end; ++p) {
        pack_back_panel<T>(1, 1U, parameters + at.proj, shape.hidden, shape.output, shape.hidden, panels.column(p),
                           panels.packs(p), 0, blocks_of<T>(shape.output), panels.panel(p));
        if (shape.bf16) {
          bf16::round_row(panels.panel(p), Panels<T>::size(panels.depth, panels.packs(p)), panels.panel(p));
        }
      }
    }
  }

 private:
  static void fill(const StackShape& shape, unsigned gates, const Panels<T>& panels, const T* w, std::int64_t ldw,
                   std::int64_t columns, bool by_heads, Member member) noexcept {
    const Member::Range range = member.share(panels.count());
    for (std::int64_t p = range.begin; p < range.end; ++p) {
      const std::int64_t first = panels.column(p);
      HeadRange blocks{0, blocks_of<T>(shape.hidden)};
      if (by_heads) blocks = blocks_of_columns<T>(shape, first, std::min(columns, first + panels.packs(p) * kLanes<T>));
      pack_back_panel<T>(shape.gates, gates, w, ldw, shape.hidden, columns, first, panels.packs(p), blocks.first,
                         blocks.last, panels.panel(p));
      const std::int64_t rows = (blocks.last - blocks.first) * shape.gates * kLanes<T>;
      if (shape.bf16) bf16::round_row(panels.panel(p), rows * panels.packs(p) * kLanes<T>, panels.panel(p));
    }
  }
};

LSTMCORE_END_NAMESPACE
