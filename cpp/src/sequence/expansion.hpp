// Weights as the kernels see them: every gate has H rows, and R has one column for each value that it reads.
//
// The user's tensors are smaller where units share gates (memory cell blocks of the 1997 LSTM), where R is
// block-diagonal (heads), or lie apart (gate recurrence). For such cells the weights are written out before they are
// packed, and the gradients are gathered back afterwards; all other cells use the user's tensors where they lie.
#pragma once

#include "base/threads.hpp"
#include "sequence/shape.hpp"

LSTMCORE_BEGIN_NAMESPACE

/// W, R and b of one slot, [G·H, …].
template <class T>
struct SlotWeights {
  T* W = nullptr;  ///< [G·H, layer_input]
  T* R = nullptr;  ///< [G·H, fed_width]
  T* b = nullptr;  ///< [G·H]
};

template <class T>
class Expansion {
 public:
  /// Elements of the expanded weights of one slot; 0 where none are needed.
  static std::int64_t size(const StackShape& shape, std::int64_t layer) noexcept {
    if (!shape.cell.expands()) return 0;
    std::int64_t count = shape.gate_rows() * shape.fed_width();
    if (shape.cell.block_size > 1) count += shape.gate_rows() * (shape.layer_input(layer) + 1);
    return count;
  }

  /// The slot's weights inside `user`, or inside `room` (size() elements) what must be written out.
  template <class U>
  static SlotWeights<U> view(const StackShape& shape, std::int64_t layer, const SlotTensors& at, U* user,
                             U* room) noexcept {
    SlotWeights<U> weights{user + at.W, at.R < 0 ? nullptr : user + at.R, user + at.b};
    if (!shape.cell.expands()) return weights;
    weights.R = room;
    if (shape.cell.block_size > 1) {
      weights.W = room + shape.gate_rows() * shape.fed_width();
      weights.b = weights.W + shape.gate_rows() * shape.layer_input(layer);
    }
    return weights;
  }

  /// Writes out this member's share of what view() placed in the room.
  static void expand(const StackShape& shape, std::int64_t layer, const SlotTensors& at, const T* user, T* room,
                     Member member) noexcept {
    if (!shape.cell.expands()) return;
    const SlotWeights<T> to = view<T>(shape, layer, at, const_cast<T*>(user), room);
    const Member::Range units = member.share(shape.hidden);
    visit(
        shape, layer, at, units,
        [&](std::int64_t expanded, std::int64_t given) { to.R[expanded] = given < 0 ? T{0} : user[given]; },
        [&](std::int64_t row, std::int64_t given, std::int64_t given_bias, std::int64_t width) {
          std::copy_n(user + given, width, to.W + row * width);
          to.b[row] = user[given_bias];
        });
  }

  /// Gradients of expanded weights → of the user's, which must be zero before; alone.
  static void reduce(const StackShape& shape, std::int64_t layer, const SlotTensors& at, T* room, T* user) noexcept {
    if (!shape.cell.expands()) return;
    const SlotWeights<T> from = view<T>(shape, layer, at, user, room);
    visit(
        shape, layer, at, {0, shape.hidden},
        [&](std::int64_t expanded, std::int64_t given) {
          if (given >= 0) user[given] += from.R[expanded];
        },
        [&](std::int64_t row, std::int64_t given, std::int64_t given_bias, std::int64_t width) {
          for (std::int64_t k = 0; k < width; ++k) user[given + k] += from.W[row * width + k];
          user[given_bias] += from.b[row];
        });
  }

 private:
  /// Every element of the expanded R with its place in the user's buffer (−1: always zero), and, where units share
  /// gates, every row of W with its place and that of its bias.
  template <class Element, class Row>
  static void visit(const StackShape& shape, std::int64_t layer, const SlotTensors& at, Member::Range units,
                    Element&& element, Row&& row_of_w) noexcept {
    const CellSpec& cell = shape.cell;
    const std::int64_t fed = shape.fed_width();
    const std::int64_t blocks = shape.hidden / cell.block_size;
    const std::int64_t head = shape.output / cell.heads;
    const bool own = !cell.feedback_name.empty();
    const auto feedback = static_cast<std::int64_t>(cell.feedback);
    const std::int64_t columns = head + (own ? 0 : feedback * blocks);
    std::int64_t own_gate = 0;  // row block of a gate in the feedback's own tensor
    for (int gate = 0; gate < shape.gates; ++gate) {
      const bool candidate = cell.gate_names[static_cast<std::size_t>(gate)] == "g";
      for (std::int64_t unit = units.begin; unit < units.end; ++unit) {
        const std::int64_t row = gate * shape.hidden + unit;
        const std::int64_t given_row = shape.user_row(gate, unit);
        const std::int64_t given = at.R + given_row * columns;
        const std::int64_t first = unit / head * head;
        for (std::int64_t k = 0; k < shape.output; ++k) {
          const bool inside = cell.heads == 1 || (k >= first && k < first + head);
          element(row * fed + k, inside ? given + (cell.heads == 1 ? k : k - first) : -1);
        }
        for (std::int64_t j = 0; j < feedback; ++j) {
          for (std::int64_t k = 0; k < shape.hidden; ++k) {
            std::int64_t place = -1;
            if (own) {
              if (!candidate) {
                place = at.RG + (own_gate * shape.hidden + unit) * feedback * shape.hidden + j * shape.hidden + k;
              }
            } else if (k % cell.block_size == 0) {
              place = given + head + j * blocks + k / cell.block_size;
            }
            element(row * fed + shape.output + j * shape.hidden + k, place);
          }
        }
        if (cell.block_size > 1) {
          const std::int64_t width = shape.layer_input(layer);
          row_of_w(row, at.W + given_row * width, at.b + given_row, width);
        }
      }
      if (!candidate) ++own_gate;
    }
  }
};

LSTMCORE_END_NAMESPACE
