// Sizes and tensors of a tree layer, and its weights in the order of the register tiles.
//
// The user's rows are i, f, u, o (or i, f_1 … f_A, u, o). Leaves have no use for forget gates, so the kernels get two
// matrices in place of one: rows i, u, o for every node, and the forget gates for nodes that have children. Every
// gate's rows are padded to whole packs with zeros; gradients come back the same way.
#pragma once

#include "base/arena.hpp"
#include "base/threads.hpp"
#include "cells/tree_lstm.hpp"
#include "kernels/product.hpp"

#include <lstmcore/tree.hpp>

#include <algorithm>
#include <vector>

LSTMCORE_BEGIN_NAMESPACE

struct TreeShape {
  std::int64_t input = 0;
  std::int64_t hidden = 0;
  std::int64_t arity = 0;  ///< A; 0: child-sum

  explicit TreeShape(const TreeConfig& config)
      : input(config.input_size), hidden(config.hidden_size), arity(config.arity) {}

  bool nary() const noexcept { return arity > 0; }
  std::int64_t forgets() const noexcept { return nary() ? arity : 1; }            ///< forget gates in U
  std::int64_t fed() const noexcept { return nary() ? arity * hidden : hidden; }  ///< columns of U
  /// Multiply-adds of U for one child.
  std::int64_t child_products() const noexcept { return (3 + forgets()) * hidden * hidden; }

  /// First elements of W, U and b in the parameter buffer, and its size.
  std::array<std::int64_t, 4> offsets() const noexcept {
    const std::int64_t U = 4 * hidden * input;
    const std::int64_t b = U + (3 + forgets()) * hidden * fed();
    return {0, U, b, b + 4 * hidden};
  }
};

/// "W", "U", "b".
inline std::vector<TensorInfo> tree_tensors(const TreeShape& shape) {
  const auto offsets = shape.offsets();
  return {{"W", {4 * shape.hidden, shape.input}, offsets[0]},
          {"U", {(3 + shape.forgets()) * shape.hidden, shape.fed()}, offsets[1]},
          {"b", {4 * shape.hidden}, offsets[2]}};
}

/// The user's tensors as the kernels want them; T may be const.
template <class T>
struct TreeTensors {
  T* nodes_W = nullptr;   ///< [3·Hp, I]: i, u, o; Hp: H in whole packs
  T* nodes_U = nullptr;   ///< [3·Hp, fed]
  T* forget_W = nullptr;  ///< [Hp, I]
  T* forget_U = nullptr;  ///< [forgets·Hp, fed]
  T* nodes_b = nullptr;   ///< [3·Hp]
  T* forget_b = nullptr;  ///< [Hp]
};

template <class T>
class TreeExpansion {
 public:
  static TreeTensors<T> allocate(const TreeShape& shape, Arena& arena) {
    const std::int64_t hp = padded<T>(shape.hidden);
    TreeTensors<T> to;
    to.nodes_W = arena.take<T>(3 * hp * shape.input);
    to.nodes_U = arena.take<T>(3 * hp * shape.fed());
    to.forget_W = arena.take<T>(hp * shape.input);
    to.forget_U = arena.take<T>(shape.forgets() * hp * shape.fed());
    to.nodes_b = arena.take<T>(3 * hp);
    to.forget_b = arena.take<T>(hp);
    return to;
  }

  /// This member's rows, padding included.
  static void expand(const TreeShape& shape, const T* parameters, const TreeTensors<T>& to, Member member) noexcept {
    const std::int64_t hp = padded<T>(shape.hidden);
    const auto offsets = shape.offsets();
    const auto copy = [&](std::size_t tensor, std::int64_t from_gate, std::int64_t columns, T* rows) {
      const T* from = parameters + offsets[tensor] + from_gate * shape.hidden * columns;
      const Member::Range range = member.share(hp);
      const std::int64_t last = std::min(range.end, shape.hidden);
      if (range.begin < last)
        std::copy(from + range.begin * columns, from + last * columns, rows + range.begin * columns);
      const std::int64_t padding = std::max(range.begin, shape.hidden);
      if (padding < range.end) std::fill(rows + padding * columns, rows + range.end * columns, T{0});
    };
    for_gates(shape, to, copy);
  }

  /// Gradients back into the user's order: this member's rows.
  static void gather(const TreeShape& shape, const TreeTensors<T>& from, T* gradient, Member member) noexcept {
    const auto offsets = shape.offsets();
    const auto copy = [&](std::size_t tensor, std::int64_t to_gate, std::int64_t columns, const T* rows) {
      T* to = gradient + offsets[tensor] + to_gate * shape.hidden * columns;
      const Member::Range range = member.share(shape.hidden);
      std::copy(rows + range.begin * columns, rows + range.end * columns, to + range.begin * columns);
    };
    for_gates(shape, from, copy);
  }

 private:
  /// copy(tensor, gate in the user's order, columns, our rows) for every gate of every tensor.
  template <class Copy>
  static void for_gates(const TreeShape& shape, const TreeTensors<T>& ours, Copy&& copy) noexcept {
    const std::int64_t hp = padded<T>(shape.hidden);
    constexpr std::array<std::int64_t, 3> kNodeGates = {0, 2, 3};  // of W and b; U has forgets() − 1 more before u
    for (std::int64_t g = 0; g < 3; ++g) {
      const std::int64_t gate = kNodeGates[static_cast<std::size_t>(g)];
      copy(0, gate, shape.input, ours.nodes_W + g * hp * shape.input);
      copy(1, gate == 0 ? 0 : gate + shape.forgets() - 1, shape.fed(), ours.nodes_U + g * hp * shape.fed());
      copy(2, gate, 1, ours.nodes_b + g * hp);
    }
    constexpr std::int64_t kForget = TreeLstm::kForgetGate;
    copy(0, kForget, shape.input, ours.forget_W);
    copy(2, kForget, 1, ours.forget_b);
    for (std::int64_t k = 0; k < shape.forgets(); ++k) {
      copy(1, kForget + k, shape.fed(), ours.forget_U + k * hp * shape.fed());
    }
  }
};

/// Matrices in panels: for forward, rows of the expanded tensors as columns; for backward as they are. Of U one for
/// each position of a child, or a single one.
template <class T>
struct TreePanels {
  Panels<T> nodes_W, forget_W;
  std::vector<Panels<T>> nodes_U, forget_U;
};

template <class T>
class TreePacking {
 public:
  static TreePanels<T> allocate_forward(const TreeShape& shape, Arena& arena) {
    const std::int64_t blocks = blocks_of<T>(shape.hidden);
    TreePanels<T> panels;
    panels.nodes_W = take(shape.input, 3 * blocks, arena);
    panels.forget_W = take(shape.input, blocks, arena);
    for (std::int64_t k = 0; k < shape.forgets(); ++k) {
      panels.nodes_U.push_back(take(shape.hidden, 3 * blocks, arena));
      panels.forget_U.push_back(take(shape.hidden, shape.forgets() * blocks, arena));
    }
    return panels;
  }
  /// Without those of W where the gradient of x is not wanted.
  static TreePanels<T> allocate_backward(const TreeShape& shape, bool input_gradient, Arena& arena) {
    const std::int64_t hp = padded<T>(shape.hidden);
    const std::int64_t blocks = blocks_of<T>(shape.hidden);
    TreePanels<T> panels;
    for (std::int64_t k = 0; k < shape.forgets(); ++k) {
      panels.nodes_U.push_back(take(3 * hp, blocks, arena));
      panels.forget_U.push_back(take(shape.forgets() * hp, blocks, arena));
    }
    if (input_gradient) {
      panels.nodes_W = take(3 * hp, blocks_of<T>(shape.input), arena);
      panels.forget_W = take(hp, blocks_of<T>(shape.input), arena);
    }
    return panels;
  }

  static void pack_forward(const TreeShape& shape, const TreeTensors<T>& from, const TreePanels<T>& to,
                           Member member) noexcept {
    forward(from.nodes_W, shape.input, to.nodes_W, member);
    forward(from.forget_W, shape.input, to.forget_W, member);
    for (std::size_t k = 0; k < to.nodes_U.size(); ++k) {
      const std::int64_t column = static_cast<std::int64_t>(k) * shape.hidden;
      forward(from.nodes_U + column, shape.fed(), to.nodes_U[k], member);
      forward(from.forget_U + column, shape.fed(), to.forget_U[k], member);
    }
  }
  static void pack_backward(const TreeShape& shape, const TreeTensors<T>& from, const TreePanels<T>& to,
                            Member member) noexcept {
    backward(from.nodes_W, shape.input, shape.input, to.nodes_W, member);
    backward(from.forget_W, shape.input, shape.input, to.forget_W, member);
    for (std::size_t k = 0; k < to.nodes_U.size(); ++k) {
      const std::int64_t column = static_cast<std::int64_t>(k) * shape.hidden;
      backward(from.nodes_U + column, shape.fed(), shape.hidden, to.nodes_U[k], member);
      backward(from.forget_U + column, shape.fed(), shape.hidden, to.forget_U[k], member);
    }
  }

 private:
  static constexpr int W = kLanes<T>;

  static Panels<T> take(std::int64_t depth, std::int64_t blocks, Arena& arena) {
    return {arena.take<T>(Panels<T>::size(depth, blocks)), depth, blocks};
  }

  /// Packs of rows, which padding has made whole, stand where pack_gate_panel has gates.
  static void forward(const T* rows, std::int64_t stride, const Panels<T>& to, Member member) noexcept {
    const Member::Range range = member.share(to.count());
    for (std::int64_t p = range.begin; p < range.end; ++p) {
      pack_gate_panel<T>(to.packs(p), ~0U, rows + to.column(p) * stride, stride, W, to.depth, 0, to.panel(p));
    }
  }

  static void backward(const T* rows, std::int64_t stride, std::int64_t columns, const Panels<T>& to,
                       Member member) noexcept {
    if (to.data == nullptr) return;
    const Member::Range range = member.share(to.count());
    for (std::int64_t p = range.begin; p < range.end; ++p) {
      pack_back_panel<T>(1, 1U, rows, stride, to.depth, columns, to.column(p), to.packs(p), 0, to.depth / W,
                         to.panel(p));
    }
  }
};

LSTMCORE_END_NAMESPACE
