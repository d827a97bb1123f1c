// Everything one direction of one layer reads and writes in a pass over a batch.
#pragma once

#include "base/cancel.hpp"
#include "base/threads.hpp"
#include "kernels/normalise.hpp"
#include "sequence/batch.hpp"
#include "sequence/packed_weights.hpp"

LSTMCORE_BEGIN_NAMESPACE

/// Threads that work on one direction.
struct Group {
  Member member;
  SpinBarrier* barrier = nullptr;
  bool* stop = nullptr;  ///< the group's common decision to give up, written by member 0 between two barriers
  CancelToken* cancel = nullptr;
  bool polls = false;  ///< this thread may call the cancel callback

  void wait() const noexcept { barrier->wait(member.size); }
  bool check() const { return polls ? cancel->poll() : cancel->stopped(); }
};

/// Part of a layer's input: the whole of x, or the outputs of one direction of the layer below.
template <class T>
struct InputSegment {
  Rows<const T> rows;
  std::int64_t depth = 0;
};

/// The input of a layer whose steps often have the same data: each kind once.
template <class T>
struct DistinctRows {
  std::int64_t count = 0;               ///< 0: every row is its own
  Rows<T> rows{};                       ///< [count, I]
  const std::int32_t* of = nullptr;     ///< for each row of the batch its place in `rows`
  const std::int64_t* first = nullptr;  ///< for each place the first row of the batch that has it
};

/// Matrices are rows × padded(H) (units), rows × padded(P) (h) or rows × G·padded(H) (gates in block order). A row is
/// one step of one sequence, see sequence/batch.hpp; those marked [step] have a row for each step when recording, and
/// otherwise one row a sequence, used again in every step.
template <class T>
struct DirectionPass {
  const StackShape* shape = nullptr;
  const CellKernels<T>* kernels = nullptr;
  const BatchLayout* layout = nullptr;
  bool reverse = false;
  std::array<InputSegment<T>, 2> segments{};
  int segment_count = 0;
  const DistinctRows<T>* distinct = nullptr;  ///< instead of the rows of the one segment, or null
  Rows<T> distinct_gates{};                   ///< [distinct]: W x + b; in backward sums of gradients of those
  PackedDirection<T> weights{};
  bool recording = false;
  bool keeps_states = false;         ///< records states even when nothing else is recorded: they feed the next step's R
  bool general = false;              ///< runs in sequence/general_step.hpp
  const Int8Kernel* int8 = nullptr;  ///< of 8-bit weights; null: weights are T
  Int8Rows* rounded = nullptr;       ///< room for kRowBlock rows of activations in 8 bits, one a thread

  Rows<const T> h0{};                        ///< [N]
  Rows<T> out{};                             ///< h of every row, this direction's columns
  std::array<Rows<T>, kMaxStates> state{};   ///< [N]: initial, then current, then final states
  std::array<Rows<T>, kMaxStates> record{};  ///< states of every row; only with keeps_states
  Rows<T> gates{};                           ///< recording: every row; otherwise the rows of one chunk
  Rows<T> recurrent{};                       ///< [step] R·h₋ (+ bR) of separate cells

  // Regularisers; absent when off.
  Rows<const T> keep{};                     ///< factor of the candidate, every row
  Rows<const T> hold_h{}, hold_state{};     ///< zoneout: 1 keeps the old value, every row; stride 0: the expectation
  Rows<T> fresh_h{};                        ///< [step] h before zoneout
  std::array<Rows<T>, kMaxStates> fresh{};  ///< [step] states before zoneout
  Rows<const T> fed_mask{};                 ///< [N] factor of h where it enters R
  Rows<T> fed{};                            ///< h under that mask or rounded to bf16, every row; else absent
  Rows<const T> fed0{};                     ///< [N]

  // Parts of general steps.
  Rows<T> units{};                                          ///< [step] o ⊙ tanh(c) before the projection
  Rows<T> reset_fed{};                                      ///< [step] r ⊙ h₋ of reset-before
  Rows<T> normal_x{};                                       ///< recording: LN(W x) before the gain, every row
  Rows<T> normal_r{};                                       ///< [step] LN(R h₋) before the gain
  Rows<T> normal_state{};                                   ///< [step] LN(c) before the gain
  Rows<T> deviation_x{}, deviation_r{}, deviation_state{};  ///< [step] 1/σ, one a group
  Rows<T> scratch{};                                        ///< [N, Hp]

  // backward
  BackPanels<T> back{};
  std::int64_t bptt_steps = 0;                ///< gradients flow back over windows of so many steps; 0: all the way
  Rows<const T> d_out{};                      ///< gradient of out, or absent
  Rows<T> dh{};                               ///< [N]: gradient of the final h, at the end of the initial h
  Rows<T> dh_fed{};                           ///< [N]: the part that came through fed_mask; only with it
  std::array<Rows<T>, kMaxStates> d_state{};  ///< [N]: the same for the other states
  std::array<Rows<T>, kMaxStates> d_held{};   ///< [N]: what zoneout passes on
  Rows<T> d_units{};                          ///< [N, Hp]
  Rows<T> d_recurrent{};                      ///< [N, G·Hp]: gradient of R·h₋ under LN
  Rows<T> d_projected{};                      ///< gradient of the projection's output, every row
  Rows<T> d_normal_state{};                   ///< gradient of LN(c) times gain, every row

  bool rounds_fed() const noexcept { return shape->rounds_fed(); }
  std::int64_t hidden() const noexcept { return shape->hidden; }
  std::int64_t gate_width() const noexcept { return shape->gates * padded<T>(shape->hidden); }

  /// A [step] matrix at sequence n of the step that begins at row `offset`.
  Rows<T> at(Rows<T> rows, std::int64_t offset, std::int64_t n) const noexcept {
    return cut(rows, recording ? offset + n : n, 0);
  }
  Rows<T> next_state(std::size_t s, std::int64_t offset, std::int64_t n) const noexcept {
    return keeps_states ? record[s].from(offset + n) : state[s].from(n);
  }
  std::int64_t time(std::int64_t k) const noexcept { return reverse ? layout->steps() - 1 - k : k; }
  /// What entered R at a step that begins at `offset`.
  Rows<const T> fed_rows(std::int64_t offset) const noexcept {
    return (fed.data != nullptr ? fed : out).from(offset).read();
  }
};

/// Rows whose gates are computed before the recurrence runs over them: they stay in L2.
template <class T>
std::int64_t chunk_rows(std::int64_t gate_width) noexcept {
  return std::max<std::int64_t>(1, (std::int64_t{1} << 18) / (gate_width * static_cast<std::int64_t>(sizeof(T))));
}

/// Distance of rows of gates: a multiple of 1 kB would put all rows of a tile into a few sets of the L1 cache (2% of a
/// product at H = 256).
template <class T>
constexpr std::int64_t gate_distance(std::int64_t gate_width) noexcept {
  constexpr std::int64_t kLine = 64 / static_cast<std::int64_t>(sizeof(T));
  return gate_width % (16 * kLine) == 0 ? gate_width + kLine : gate_width;
}

/// Sequences of one step that read their previous h and states from the same place.
template <class T>
struct Source {
  std::int64_t first = 0, last = 0;  ///< sequences
  Rows<const T> h, fed;              ///< of sequence 0
  std::array<Rows<const T>, kMaxStates> state{};
};

/// The previous step's rows of each running sequence, and the initial state for sequences that begin at t.
template <class T>
int sources(const DirectionPass<T>& pass, std::int64_t t, std::array<Source<T>, 2>& out) noexcept {
  const BatchLayout& layout = *pass.layout;
  const std::size_t states = pass.shape->cell.states;
  const std::int64_t before = pass.reverse ? t + 1 : t - 1;
  const std::int64_t now = layout.active(t);
  const std::int64_t running = before < 0 || before >= layout.steps() ? 0 : std::min(now, layout.active(before));
  int count = 0;
  if (running > 0) {
    Source<T>& source = out[static_cast<std::size_t>(count++)];
    const std::int64_t row = layout.offset(before);
    source.first = 0;
    source.last = running;
    source.h = pass.out.from(row).read();
    source.fed = pass.fed_rows(row);
    for (std::size_t s = 0; s < states; ++s) source.state[s] = pass.next_state(s, row, 0).read();
  }
  if (running < now) {
    Source<T>& source = out[static_cast<std::size_t>(count++)];
    source.first = running;
    source.last = now;
    source.h = pass.h0;
    source.fed = pass.fed.data != nullptr ? pass.fed0 : pass.h0;
    for (std::size_t s = 0; s < states; ++s) source.state[s] = pass.state[s].read();
  }
  return count;
}

/// R · what feeds it, for one block of units: dest = or += sequences [n, n + m). panels: this block's.
template <class T>
void recurrent_product(const DirectionPass<T>& pass, const Source<T>& from, std::int64_t n, std::int64_t m,
                       std::int64_t block, const T* panels, Start start, const T* bias, Rows<T> dest) noexcept {
  const StackShape& shape = *pass.shape;
  const int gates = shape.cell.reset_before ? shape.gates - 1 : shape.gates;  // the last one's product comes later
  const HeadRange columns = columns_of_block<T>(shape, block);
  weight_product<T>(shape.bf16, gates, start, m, columns.last - columns.first, from.fed[n] + columns.first,
                    from.fed.stride, panels, dest.data, dest.stride, bias,
                    where_from<T>(panel_rows(shape.bf16, shape.fed_width()) * pass.gate_width()));
  panels += (columns.last - columns.first) * gates * kLanes<T>;
  for (std::size_t k = 0; k < shape.cell.feedback; ++k) {
    const Rows<const T>& state = from.state[shape.first_feedback() + k];
    panel_product<T>(gates, Start::sum, m, shape.hidden, state[n], state.stride, panels, dest.data, dest.stride);
    panels += shape.hidden * gates * kLanes<T>;
  }
}

/// What enters R from h of some rows and columns.
template <class T>
void round_fed(std::int64_t rows, std::int64_t columns, Rows<const T> h, Rows<T> fed) noexcept {
  for (std::int64_t row = 0; row < rows; ++row) bf16::round_row(h[row], columns, fed[row]);
}

/// Gradients of pre-activations as they enter products and sums over rows, in place: rows from `row` on, of the units
/// of blocks [first, last). Under layer normalisation those of what it normalises do, and are rounded there.
template <class T>
void round_gradients(const DirectionPass<T>& pass, std::int64_t row, std::int64_t rows, std::int64_t first,
                     std::int64_t last) noexcept {
  const StackShape& shape = *pass.shape;
  if (!shape.bf16 || shape.cell.normalised) return;
  const std::int64_t width = std::int64_t{shape.gates} * kLanes<T>;
  for (const Rows<T>& d : {pass.gates, pass.recurrent}) {
    if (d.data == nullptr) continue;
    for (std::int64_t i = row; i < row + rows; ++i) {
      bf16::round_row(d[i] + first * width, (last - first) * width, d[i] + first * width);
    }
  }
}

/// dh += Rᵀ · gates, and the same for states that feed back: sequences [n, n + m), panels [first, last) of h.
template <class T>
void recurrent_gradient(const DirectionPass<T>& pass, Rows<const T> gates, const Panels<T>& back, std::int64_t n,
                        std::int64_t m, std::int64_t first, std::int64_t last, Rows<T> dh) noexcept {
  const StackShape& shape = *pass.shape;
  if (shape.cell.heads == 1) {
    rows_times_panels<T>(Start::sum, m, gates.data, gates.stride, back, first, last, dh[n], dh.stride);
    for (std::size_t k = 0; k < shape.cell.feedback; ++k) {
      const Rows<T>& d = pass.d_state[shape.first_feedback() + k];
      const Panels<T>& panels = pass.back.feedback[k];  // as many as of h, unless h is projected and all are asked for
      rows_times_panels<T>(Start::sum, m, gates.data, gates.stride, panels, first,
                           last == back.count() ? panels.count() : last, d[n], d.stride);
    }
    return;
  }
  const std::int64_t width = shape.gates * kLanes<T>;
  for (std::int64_t p = first; p < last; ++p) {
    const std::int64_t column = back.column(p);
    const HeadRange blocks =
        blocks_of_columns<T>(shape, column, std::min(shape.output, column + back.packs(p) * kLanes<T>));
    panel_product<T>(back.packs(p), Start::sum, m, (blocks.last - blocks.first) * width,
                     gates.data + blocks.first * width, gates.stride, back.panel(p), dh[n] + column, dh.stride);
  }
}

LSTMCORE_END_NAMESPACE
