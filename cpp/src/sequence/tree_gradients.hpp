// From gradients of pre-activations, left behind by TreeLevels::backward, to gradients of a tree layer's weights.
//
// Every sum over rows runs in the order of the rows and is cut among threads by columns only, so that no result depends
// on the number of threads.
#pragma once

#include "kernels/weight_gradient.hpp"
#include "sequence/tree_pass.hpp"

LSTMCORE_BEGIN_NAMESPACE

template <class T>
class TreeGradients {
 public:
  using Pass = TreePass<T>;

  static std::int64_t scratch(const TreeShape& shape) noexcept {
    return WeightGradient<T>::scratch(std::max(shape.input, shape.hidden));
  }

  /// Rows that the gradient of U is made of, edge by edge, found once for all members.
  struct Edges {
    std::vector<const T*> h;          ///< child-sum: of the child, by slot; N-ary: of the child, by position
    std::vector<const T*> gates;      ///< N-ary: of the parent
    std::vector<const T*> forget;     ///< N-ary: of the parent, all positions
    std::vector<std::int64_t> first;  ///< N-ary: first edge of each position, and one past the last
  };

  static void prepare(const Pass& pass, Edges& edges) {
    const TreeShape& shape = *pass.shape;
    const TreeLayout& layout = *pass.layout;
    const auto count = static_cast<std::size_t>(layout.edges());
    edges.h.resize(count);
    edges.gates.resize(shape.nary() ? count : 0);
    edges.forget.resize(shape.nary() ? count : 0);
    edges.first.assign(static_cast<std::size_t>(shape.arity) + 2, 0);
    // f(row of the parent, its number, child)
    const auto for_edges = [&](auto&& f) {
      for (std::int64_t k = 0; k < layout.internals(); ++k) {
        const std::int64_t row = layout.leaves() + k;
        for (const TreeChild* child = layout.children_begin(row); child != layout.children_end(row); ++child) {
          f(row, k, *child);
        }
      }
    };
    if (!shape.nary()) {
      for_edges([&](std::int64_t, std::int64_t, const TreeChild& child) {
        edges.h[static_cast<std::size_t>(child.slot)] = pass.h[child.row];
      });
      return;
    }
    // first[p + 2] counts, then first[p + 1] walks from the start of position p to its end: the start of p + 1.
    const auto position = [&](std::int64_t k, const TreeChild& child) {
      return static_cast<std::size_t>(child.slot - k * shape.arity);
    };
    for_edges([&](std::int64_t, std::int64_t k, const TreeChild& child) { ++edges.first[position(k, child) + 2]; });
    for (std::size_t p = 2; p < edges.first.size(); ++p) edges.first[p] += edges.first[p - 1];
    for_edges([&](std::int64_t row, std::int64_t k, const TreeChild& child) {
      const auto at = static_cast<std::size_t>(edges.first[position(k, child) + 1]++);
      edges.h[at] = pass.h[child.row];
      edges.gates[at] = pass.gates[row];
      edges.forget[at] = pass.forget[k * shape.arity];
    });
  }

  /// to: rows as TreeTensors has them, this member's columns of gates. scratch: this member's.
  static void weights(const Pass& pass, const Edges& edges, const TreeTensors<T>& to, T* scratch,
                      Member member) noexcept {
    const TreeShape& shape = *pass.shape;
    const TreeLayout& layout = *pass.layout;
    const std::int64_t width = pass.width();
    const std::int64_t leaves = layout.leaves();
    const std::int64_t internals = layout.internals();

    GradientOperand<T> input;
    input.columns = input.ld_gradient = shape.input;
    input.rows = pass.x.read();
    input.gradient = to.nodes_W;
    run(layout.rows(), pass.gates.read(), 3 * width, &input, 1, to.nodes_b, scratch, member);
    input.rows = pass.x.from(leaves).read();
    input.gradient = to.forget_W;
    run(internals, pass.forget_x.read(), width, &input, 1, to.forget_b, scratch, member);

    if (!shape.nary()) {
      GradientOperand<T> fed;
      fed.columns = fed.ld_gradient = shape.hidden;
      fed.rows = pass.sum.read();
      fed.gradient = to.nodes_U;
      run(internals, pass.gates.from(leaves).read(), 3 * width, &fed, 1, nullptr, scratch, member);
      fed.rows = {};
      fed.pointers = edges.h.data();
      fed.gradient = to.forget_U;
      run(layout.edges(), pass.forget.read(), width, &fed, 1, nullptr, scratch, member);
      return;
    }
    for (std::int64_t k = 0; k < shape.arity; ++k) {
      const std::int64_t first = edges.first[static_cast<std::size_t>(k)];
      const std::int64_t count = edges.first[static_cast<std::size_t>(k) + 1] - first;
      GradientOperand<T> fed;
      fed.columns = shape.hidden;
      fed.ld_gradient = shape.fed();
      fed.pointers = edges.h.data() + first;
      fed.gradient = to.nodes_U + k * shape.hidden;
      run(count, PointerRows<T>{edges.gates.data() + first, 0}, 3 * width, &fed, 1, nullptr, scratch, member);
      fed.gradient = to.forget_U + k * shape.hidden;
      run(count, PointerRows<T>{edges.forget.data() + first, 0}, shape.arity * width, &fed, 1, nullptr, scratch,
          member);
    }
  }

 private:
  template <class D>
  static void run(std::int64_t rows, D d, std::int64_t columns, const GradientOperand<T>* operands, int count, T* bias,
                  T* scratch, Member member) noexcept {
    const Member::Range range = member.share(columns, WeightGradient<T>::kTileRows);
    WeightGradient<T>::run(rows, d, 1, columns, range.begin, range.end, operands, count, bias, scratch);
  }
};

LSTMCORE_END_NAMESPACE
