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

  /// What U multiplies, found once for all members. N-ary: an operand for each position, for nodes_U, then the same for
  /// forget_U.
  struct Operands {
    std::vector<const T*> children;  ///< child-sum: h of each edge; N-ary: [A][internal], `zeros` where there is none
    std::vector<GradientOperand<T>> positions;
  };

  static void prepare(const Pass& pass, const T* zeros, const TreeTensors<T>& to, Operands& operands) {
    const TreeShape& shape = *pass.shape;
    const TreeLayout& layout = *pass.layout;
    const std::int64_t internals = layout.internals();
    operands.children.assign(static_cast<std::size_t>(layout.slots()), zeros);
    for (std::int64_t k = 0; k < internals; ++k) {
      const std::int64_t row = layout.leaves() + k;
      for (const TreeChild* child = layout.children_begin(row); child != layout.children_end(row); ++child) {
        const std::int64_t at = shape.nary() ? (child->slot - k * shape.arity) * internals + k : child->slot;
        operands.children[static_cast<std::size_t>(at)] = pass.h[child->row];
      }
    }
    operands.positions.clear();
    for (T* gradient : {to.nodes_U, to.forget_U}) {
      for (std::int64_t k = 0; k < shape.arity; ++k) {
        GradientOperand<T> fed;
        fed.columns = shape.hidden;
        fed.ld_gradient = shape.fed();
        fed.pointers = operands.children.data() + k * internals;
        fed.gradient = gradient + k * shape.hidden;
        operands.positions.push_back(fed);
      }
    }
  }

  /// to: rows as TreeTensors has them, this member's columns of gates. scratch: this member's.
  static void weights(const Pass& pass, const Operands& operands, const TreeTensors<T>& to, T* scratch,
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
    run(layout.rows(), pass.gates, 3 * width, &input, 1, to.nodes_b, scratch, member);
    input.rows = pass.x.from(leaves).read();
    input.gradient = to.forget_W;
    run(internals, pass.forget_x, width, &input, 1, to.forget_b, scratch, member);

    const Rows<T> gates = pass.gates.from(leaves);
    if (!shape.nary()) {
      GradientOperand<T> fed;
      fed.columns = fed.ld_gradient = shape.hidden;
      fed.rows = pass.sum.read();
      fed.gradient = to.nodes_U;
      run(internals, gates, 3 * width, &fed, 1, nullptr, scratch, member);
      fed.rows = {};
      fed.pointers = operands.children.data();
      fed.gradient = to.forget_U;
      run(layout.edges(), pass.forget, width, &fed, 1, nullptr, scratch, member);
      return;
    }
    const auto count = static_cast<int>(shape.arity);
    run(internals, gates, 3 * width, operands.positions.data(), count, nullptr, scratch, member);
    const Rows<T> forget{pass.forget.data, shape.arity * width};
    run(internals, forget, shape.arity * width, operands.positions.data() + count, count, nullptr, scratch, member);
  }

 private:
  static void run(std::int64_t rows, Rows<T> d, std::int64_t columns, const GradientOperand<T>* operands, int count,
                  T* bias, T* scratch, Member member) noexcept {
    const Member::Range range = member.share(columns, WeightGradient<T>::kTileRows);
    WeightGradient<T>::run(rows, d.read(), 1, columns, range.begin, range.end, operands, count, bias, scratch);
  }
};

LSTMCORE_END_NAMESPACE
