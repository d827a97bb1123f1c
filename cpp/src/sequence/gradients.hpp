// From gradients of pre-activations, left behind by the loop over time, to gradients of one layer's weights and input.
//
// Every sum over rows runs in the order of the rows and is cut among threads by columns only, so that no result depends
// on the number of threads.
#pragma once

#include "kernels/column_sums.hpp"
#include "kernels/weight_gradient.hpp"
#include "sequence/direction.hpp"

LSTMCORE_BEGIN_NAMESPACE

/// For every row of a pass where the values before its step lie; null where nobody asks.
template <class T>
struct PreviousRows {
  const T** fed = nullptr;
  std::array<const T**, kMaxStates> state{};
};

template <class T>
class LayerGradients {
 public:
  using Pass = DirectionPass<T>;

  static PreviousRows<T> allocate(const StackShape& shape, std::int64_t rows, Arena& arena) {
    PreviousRows<T> previous;
    if (shape.cell.recurrent || shape.cell.vectors > 0) previous.fed = arena.take<const T*>(rows);
    for (std::size_t s = 0; s < shape.cell.states; ++s) {
      if (reads_state(shape, s)) previous.state[s] = arena.take<const T*>(rows);
    }
    return previous;
  }

  static void find_previous(const Pass& pass, const PreviousRows<T>& to) noexcept {
    const BatchLayout& layout = *pass.layout;
    for (std::int64_t t = 0; t < layout.steps(); ++t) {
      std::array<Source<T>, 2> source;
      const int count = sources(pass, t, source);
      for (int index = 0; index < count; ++index) {
        const Source<T>& from = source[static_cast<std::size_t>(index)];
        for (std::int64_t n = from.first; n < from.last; ++n) {
          const std::int64_t row = layout.row(t, n);
          if (to.fed != nullptr) to.fed[row] = from.fed[n];
          for (std::size_t s = 0; s < pass.shape->cell.states; ++s) {
            if (to.state[s] != nullptr) to.state[s][row] = from.state[s][n];
          }
        }
      }
    }
  }

  /// Elements of scratch that one thread needs.
  static std::int64_t scratch(const StackShape& shape) noexcept {
    const std::int64_t widest = std::max({shape.input, shape.hidden, shape.output});
    return std::max(WeightGradient<T>::scratch(widest), shape.gates * padded<T>(shape.hidden));
  }

  /// First part under layer normalisation: gradients of its gains, from what the loop over time left.
  static void gains(const Pass& pass, const SlotTensors& at, T* gradient, T* scratch, Member member) noexcept {
    const StackShape& shape = *pass.shape;
    if (!shape.cell.normalised) return;
    const std::int64_t rows = pass.layout->rows();
    const Member::Range range = member.share(blocks_of<T>(shape.hidden));
    const auto sum = [&](Rows<T> a, int gates, int gate, Rows<T> b, T* out) {
      column_sums<T>(rows, a.read(), gates, gate, b.read(), nullptr, gates, gate, shape.hidden, range.begin, range.end,
                     scratch, out);
    };
    const Rows<T>& d_recurrent = shape.cell.separate ? pass.recurrent : pass.gates;
    for (int gate = 0; gate < shape.gates; ++gate) {
      const std::int64_t row = gate * shape.hidden;
      sum(pass.gates, shape.gates, gate, pass.normal_x, gradient + at.ln_x + row);
      sum(d_recurrent, shape.gates, gate, pass.normal_r, gradient + at.ln_r + row);
    }
    if (shape.cell.normalised_state) {
      sum(pass.d_normal_state, 1, 0, pass.normal_state, gradient + at.ln_c);
      sum(pass.d_normal_state, 1, 0, Rows<T>{}, gradient + at.ln_c_b);
    }
  }

  /// Second part: gradients of W x and R h₋, in place of their normalised values.
  static void through_norm(const Pass& pass, Member member) noexcept {
    const CellSpec& cell = pass.shape->cell;
    if (!cell.normalised) return;
    const LayerNorm<T> norm(GeneralStep<T>::gate_groups(pass));
    const Rows<T>& d_recurrent = cell.separate ? pass.recurrent : pass.gates;
    const Member::Range range = member.share(pass.layout->rows());
    for (std::int64_t row = range.begin; row < range.end; ++row) {
      norm.backward(pass.normal_x[row], pass.deviation_x[row], pass.weights.gain_x, pass.gates[row],
                    pass.normal_x[row]);
      norm.backward(pass.normal_r[row], pass.deviation_r[row], pass.weights.gain_r, d_recurrent[row],
                    pass.normal_r[row]);
      if (!pass.shape->bf16) continue;
      for (const Rows<T>& d : {pass.normal_x, pass.normal_r}) bf16::round_row(d[row], pass.gate_width(), d[row]);
    }
  }

  /// Third part: all other weights. expanded: room for the gradients of expanded weights, or null.
  static void weights(const Pass& pass, std::int64_t layer, const SlotTensors& at, const PreviousRows<T>& previous,
                      T* gradient, T* expanded, T* scratch, Member member) noexcept {
    const StackShape& shape = *pass.shape;
    const CellSpec& cell = shape.cell;
    const std::int64_t rows = pass.layout->rows();
    const int gates = shape.gates;
    const std::int64_t fed = shape.fed_width();
    const SlotWeights<T> to = Expansion<T>::template view<T>(shape, layer, at, gradient, expanded);
    const Rows<const T> dg = pass.gates.read();
    const Rows<const T> dx = d_input(pass);
    const Rows<const T> dr = cell.normalised ? pass.normal_r.read() : cell.separate ? pass.recurrent.read() : dg;

    std::array<GradientOperand<T>, 3 + kMaxStates> operands{};
    int count = 0;
    const auto add = [&](const GradientOperand<T>& operand) { operands[static_cast<std::size_t>(count++)] = operand; };
    const auto run = [&](Rows<const T> d, T* bias) {
      const Member::Range range = member.share(pass.gate_width(), WeightGradient<T>::kTileRows);
      WeightGradient<T>::run(rows, d, gates, shape.hidden, range.begin, range.end, operands.data(), count, bias,
                             scratch);
      count = 0;
    };

    std::int64_t column = 0;
    if (pass.distinct != nullptr) distinct_weights(pass, to.W, shape.layer_input(layer), scratch, member);
    for (int s = 0; s < pass.segment_count && pass.distinct == nullptr; ++s) {
      const InputSegment<T>& segment = pass.segments[static_cast<std::size_t>(s)];
      GradientOperand<T> operand;
      operand.rows = segment.rows;
      operand.columns = segment.depth;
      operand.gradient = to.W + column;
      operand.ld_gradient = shape.layer_input(layer);
      add(operand);
      column += segment.depth;
    }
    const bool together = cell.recurrent && cell.heads == 1 && !cell.separate && !cell.normalised;
    if (cell.recurrent && !together) run(dx, cell.normalised ? nullptr : to.b);
    if (cell.normalised) run(dg, to.b);
    if (!cell.recurrent) {
      run(dx, to.b);
    } else if (cell.heads == 1) {
      GradientOperand<T> operand;
      operand.pointers = previous.fed;
      operand.columns = shape.output;
      operand.gradient = to.R;
      operand.ld_gradient = fed;
      const unsigned last_gate = 1U << (gates - 1);
      if (cell.reset_before) operand.gates = ~last_gate;
      add(operand);
      if (cell.reset_before) {
        operand.pointers = nullptr;
        operand.rows = pass.reset_fed.read();
        operand.gates = last_gate;
        add(operand);
      }
      for (std::size_t k = 0; k < cell.feedback; ++k) {
        GradientOperand<T> state;
        state.pointers = previous.state[shape.first_feedback() + k];
        state.columns = shape.hidden;
        state.gradient = to.R + shape.output + static_cast<std::int64_t>(k) * shape.hidden;
        state.ld_gradient = fed;
        add(state);
      }
      run(dr, together ? to.b : cell.recurrent_bias && !cell.normalised ? gradient + at.bR : nullptr);
      if (cell.recurrent_bias && cell.normalised) run(pass.recurrent.read(), gradient + at.bR);
    } else {
      heads(pass, previous, to.R, scratch, member);
    }
    vectors(pass, at, previous, gradient, scratch, member);
    if (cell.projection > 0) projection(pass, at, gradient, scratch, member);
  }

  /// Gradients of pre-activations as W x made them.
  static Rows<const T> d_input(const Pass& pass) noexcept {
    return (pass.shape->cell.normalised ? pass.normal_x : pass.gates).read();
  }

  /// d_below (+)= Wᵀ · gradients of pre-activations: this member's rows. hp: distance of the segments' columns.
  static void input(const Pass& pass, Start start, std::int64_t distance, Rows<T> d_below, Member member) noexcept {
    if (pass.distinct != nullptr) {  // a row for each, of the sums that distinct_weights() left
      const Member::Range range = member.share(pass.distinct->count, 12);
      input(pass, start, distance, d_below, range, pass.distinct_gates.from(range.begin).read());
      return;
    }
    const Member::Range range = member.share(pass.layout->rows(), 12);
    input(pass, start, distance, d_below, range, d_input(pass).from(range.begin));
  }
  /// The same for rows [begin, end) of one step that backward has just left. scratch: room for as many rows of gates;
  /// used under layer normalisation only, whose own gradients come after all steps.
  static void input_of_step(const Pass& pass, Rows<T> d_below, Member::Range range, Rows<T> scratch) noexcept {
    Rows<const T> dx = pass.gates.from(range.begin).read();
    if (pass.shape->cell.normalised) {
      const LayerNorm<T> norm(GeneralStep<T>::gate_groups(pass));
      for (std::int64_t row = range.begin; row < range.end; ++row) {
        norm.backward(pass.normal_x[row], pass.deviation_x[row], pass.weights.gain_x, pass.gates[row],
                      scratch[row - range.begin]);
      }
      dx = scratch.read();
    }
    input(pass, Start::zero, 0, d_below, range, dx);
  }

 private:
  /// dW of distinct rows, and sums of the gradients of pre-activations by row, which input() reads when all threads are
  /// done: this thread's columns of them.
  static void distinct_weights(const Pass& pass, T* dW, std::int64_t ld, T* scratch, Member member) noexcept {
    const DistinctRows<T>& distinct = *pass.distinct;
    const Rows<T>& sums = pass.distinct_gates;
    const Rows<const T> d = d_input(pass);
    const Member::Range range = member.share(pass.gate_width(), WeightGradient<T>::kTileRows);
    const std::int64_t width = range.end - range.begin;
    for (std::int64_t k = 0; k < distinct.count; ++k) std::fill_n(sums[k] + range.begin, width, T{0});
    for (std::int64_t row = 0; row < pass.layout->rows(); ++row) {
      T* const to = sums[distinct.of[row]] + range.begin;
      const T* const from = d[row] + range.begin;
      for (std::int64_t k = 0; k < width; ++k) to[k] += from[k];
    }
    GradientOperand<T> operand;
    operand.rows = distinct.rows.read();
    operand.columns = pass.shape->input;
    operand.gradient = dW;
    operand.ld_gradient = ld;
    WeightGradient<T>::run(distinct.count, sums.read(), pass.shape->gates, pass.shape->hidden, range.begin, range.end,
                           &operand, 1, nullptr, scratch);
  }

  static void input(const Pass& pass, Start start, std::int64_t distance, Rows<T> d_below, Member::Range range,
                    Rows<const T> dx) noexcept {
    if (range.begin >= range.end) return;
    for (int s = 0; s < pass.segment_count; ++s) {
      const Panels<T>& back = pass.back.input[static_cast<std::size_t>(s)];
      rows_times_panels<T>(start, range.end - range.begin, dx.data, dx.stride, back, 0, back.count(),
                           d_below[range.begin] + s * distance, d_below.stride);
    }
  }

  static bool reads_state(const StackShape& shape, std::size_t s) noexcept {
    if (s >= shape.first_feedback()) return true;
    for (std::size_t k = 0; k < shape.cell.vectors; ++k) {
      const VectorTerm& term = shape.cell.vector_terms[k];
      if (term.input == VectorInput::previous_state && term.state == static_cast<int>(s)) return true;
    }
    return false;
  }

  /// Block-diagonal R: head by head, only what lies inside a head.
  static void heads(const Pass& pass, const PreviousRows<T>& previous, T* dR, T* scratch, Member member) noexcept {
    const StackShape& shape = *pass.shape;
    const std::int64_t width = shape.output / shape.cell.heads;
    const std::int64_t block = std::int64_t{shape.gates} * kLanes<T>;
    for (std::int64_t head = 0; head < shape.cell.heads; ++head) {
      GradientOperand<T> operand;
      operand.pointers = previous.fed;
      operand.first_column = head * width;
      operand.columns = width;
      operand.gradient = dR + head * width;
      operand.ld_gradient = shape.fed_width();
      operand.first_unit = head * width;
      operand.last_unit = (head + 1) * width;
      const std::int64_t first = operand.first_unit / kLanes<T> * block;
      const std::int64_t last = blocks_of<T>(operand.last_unit) * block;
      const Member::Range range = member.share(last - first, WeightGradient<T>::kTileRows);
      WeightGradient<T>::run(pass.layout->rows(), pass.gates.read(), shape.gates, shape.hidden, first + range.begin,
                             first + range.end, &operand, 1, nullptr, scratch);
    }
  }

  static void vectors(const Pass& pass, const SlotTensors& at, const PreviousRows<T>& previous, T* gradient, T* scratch,
                      Member member) noexcept {
    const StackShape& shape = *pass.shape;
    const Member::Range range = member.share(blocks_of<T>(shape.hidden));
    for (std::size_t k = 0; k < shape.cell.vectors; ++k) {
      const VectorTerm& term = shape.cell.vector_terms[k];
      const auto state = static_cast<std::size_t>(term.state);
      const T* const* pointers = nullptr;
      Rows<const T> other{};
      switch (term.input) {
        case VectorInput::h_previous:
          pointers = previous.fed;
          break;
        case VectorInput::previous_state:
          pointers = previous.state[state];
          break;
        case VectorInput::next_state:
          other = (pass.fresh[state].data != nullptr ? pass.fresh : pass.record)[state].read();
          break;
      }
      column_sums<T>(pass.layout->rows(), pass.gates.read(), shape.gates, term.gate, other, pointers, 1, 0,
                     shape.hidden, range.begin, range.end, scratch,
                     gradient + at.vectors + static_cast<std::int64_t>(k) * shape.hidden);
    }
  }

  static void projection(const Pass& pass, const SlotTensors& at, T* gradient, T* scratch, Member member) noexcept {
    const StackShape& shape = *pass.shape;
    GradientOperand<T> operand;
    operand.rows = pass.units.read();
    operand.columns = shape.hidden;
    operand.gradient = gradient + at.proj;
    operand.ld_gradient = shape.hidden;
    const Member::Range range = member.share(padded<T>(shape.output), WeightGradient<T>::kTileRows);
    WeightGradient<T>::run(pass.layout->rows(), pass.d_projected.read(), 1, shape.output, range.begin, range.end,
                           &operand, 1, nullptr, scratch);
  }
};

LSTMCORE_END_NAMESPACE
