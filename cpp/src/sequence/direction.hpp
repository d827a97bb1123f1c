// One layer in one direction: the loop over time, forward and backward (BPTT).
//
// Matrices are rows × padded(H) (units) or rows × G·padded(H) (gates in block order); a row is one step of one
// sequence, see sequence/batch.hpp. A group of threads shares the work in one of two ways: each takes some sequences
// through all steps and meets nobody, or, when there are too few sequences, each takes some units and all meet once a
// step.
#pragma once

#include "base/cancel.hpp"
#include "base/threads.hpp"
#include "kernels/pointwise.hpp"
#include "kernels/product.hpp"
#include "sequence/batch.hpp"

LSTMCORE_BEGIN_NAMESPACE

/// Threads that work on one direction.
struct Group {
  Member member;
  SpinBarrier* barrier = nullptr;
  bool* stop = nullptr;  ///< the group's common decision to give up, written by member 0 between two barriers
  CancelToken* cancel = nullptr;
  bool polls = false;  ///< this thread may call the cancel callback

  void wait() const noexcept { barrier->wait(member.size); }
};

/// Part of a layer's input: the whole of x, or the outputs of one direction of the layer below.
template <class T>
struct InputSegment {
  Rows<const T> rows;
  std::int64_t depth = 0;
};

template <class T>
struct PackedDirection {
  T* input = nullptr;      ///< gate panels, depth = all input segments
  T* recurrent = nullptr;  ///< gate panels, depth = H
  T* bias = nullptr;       ///< block order
};

/// Weights as backward multiplies with them.
template <class T>
struct BackPanels {
  std::array<Panels<T>, 2> input{};  ///< one per input segment; empty where that gradient is not wanted
  Panels<T> recurrent{};
};

/// Everything one direction of one layer reads and writes in a pass.
template <class T, class Cell>
struct DirectionPass {
  static constexpr int kGates = Cell::kGates;
  static constexpr int kStates = Cell::kStates;

  const BatchLayout* layout = nullptr;
  std::int64_t hidden = 0;
  bool reverse = false;
  std::array<InputSegment<T>, 2> segments{};
  int segment_count = 0;
  PackedDirection<T> weights{};
  Rows<const T> h0{};                     ///< [N, Hp]
  Rows<T> out{};                          ///< h of every row, this direction's columns
  std::array<Rows<T>, kStates> state{};   ///< [N, Hp]: initial, then current, then final states
  std::array<Rows<T>, kStates> record{};  ///< [rows, Hp]: states of every row; only when recording
  bool recording = false;
  T* gates = nullptr;  ///< recording: [rows, G·Hp]; otherwise [chunk rows, G·Hp]

  // backward
  BackPanels<T> back{};
  Rows<const T> d_out{};                   ///< gradient of out, or null
  Rows<T> dh{};                            ///< [N, Hp]: gradient of the final h, at the end of the initial h
  std::array<Rows<T>, kStates> d_state{};  ///< the same for the other states

  std::int64_t gate_width() const noexcept { return kGates * padded<T>(hidden); }
};

/// Rows whose gates are computed before the recurrence runs over them: they stay in L2.
template <class T>
std::int64_t chunk_rows(std::int64_t gate_width) noexcept {
  return std::max<std::int64_t>(1, (std::int64_t{1} << 18) / (gate_width * static_cast<std::int64_t>(sizeof(T))));
}

template <class T, class Cell>
class Direction {
 public:
  using Pass = DirectionPass<T, Cell>;
  static constexpr int kGates = Cell::kGates;
  static constexpr std::size_t kStates = Cell::kStates;
  static constexpr int W = kLanes<T>;

  /// Rows that `gates` must hold when nothing is recorded.
  static std::int64_t buffer_rows(const BatchLayout& layout, std::int64_t gate_width) noexcept {
    return std::min(layout.rows(), chunk_rows<T>(gate_width) + layout.sequences());
  }

  static void forward(const Pass& pass, const Group& group) noexcept {
    const BatchLayout& layout = *pass.layout;
    const Split split(layout, pass.hidden, group.member);
    const std::int64_t limit = chunk_rows<T>(pass.gate_width());
    std::int64_t done = 0;
    while (done < layout.steps()) {
      // Steps of this chunk, in time order [t0, t1), taken from the end in the reverse direction.
      std::int64_t count = 0;
      std::int64_t rows = 0;
      while (done + count < layout.steps()) {
        const std::int64_t more = layout.active(time(pass, done + count));
        if (count > 0 && rows + more > limit) break;
        rows += more;
        ++count;
      }
      const std::int64_t t0 = pass.reverse ? layout.steps() - done - count : done;
      const std::int64_t base = layout.offset(t0);
      input_product(pass, base, rows, group.member);
      group.wait();
      if (group.member.id == 0 && group.cancel != nullptr) *group.stop = check(group);
      for (std::int64_t k = done; k < done + count; ++k) {
        step(pass, time(pass, k), pass.recording ? 0 : base, split);
        if (split.units) group.wait();
      }
      group.wait();
      if (group.cancel != nullptr && *group.stop) return;
      done += count;
    }
  }

  /// From gradients of outputs and final states to gradients of pre-activations (in place of the gates) and initial
  /// states.
  static void backward(const Pass& pass, const Group& group) noexcept {
    const BatchLayout& layout = *pass.layout;
    const Split split(layout, pass.hidden, group.member);
    // About every 5 ms of arithmetic.
    const std::int64_t check_every =
        std::clamp<std::int64_t>(250'000'000 / (layout.sequences() * pass.gate_width() * pass.hidden), 1, 4096);
    for (std::int64_t k = layout.steps() - 1; k >= 0; --k) {
      if (group.cancel != nullptr && k % check_every == 0) {
        group.wait();
        if (group.member.id == 0) *group.stop = check(group);
        group.wait();
        if (*group.stop) return;
      }
      step_back(pass, time(pass, k), split, group);
    }
    group.wait();
  }

  /// One step for all rows on the calling thread: x and h_previous → gates, states, h. Streaming uses it.
  static void single_step(const Pass& pass) noexcept {
    const Member alone{0, 1};
    input_product(pass, 0, pass.layout->sequences(), alone);
    step(pass, 0, 0, Split(*pass.layout, pass.hidden, alone));
  }

 private:
  /// What one thread of a group takes.
  struct Split {
    bool units = false;
    std::int64_t first_sequence = 0, last_sequence = 0;
    std::int64_t first_block = 0, last_block = 0;

    Split(const BatchLayout& layout, std::int64_t hidden, Member member) noexcept {
      constexpr std::int64_t kFewestSequences = 4;  // below that a register tile runs half empty
      last_sequence = layout.sequences();
      last_block = blocks_of<T>(hidden);
      if (member.size == 1) return;
      if (layout.sequences() >= kFewestSequences * member.size) {
        first_sequence = layout.boundary(member.id, member.size);
        last_sequence = layout.boundary(member.id + 1, member.size);
      } else {
        units = true;
        const Member::Range range = member.share(last_block, kPanelPacks);
        first_block = range.begin;
        last_block = range.end;
      }
    }
  };

  static std::int64_t time(const Pass& pass, std::int64_t k) noexcept {
    return pass.reverse ? pass.layout->steps() - 1 - k : k;
  }

  static bool check(const Group& group) { return group.polls ? group.cancel->poll() : group.cancel->stopped(); }

  static void input_product(const Pass& pass, std::int64_t base, std::int64_t rows, Member member) noexcept {
    const std::int64_t width = pass.gate_width();
    const std::int64_t blocks = blocks_of<T>(pass.hidden);
    T* gates = pass.gates + (pass.recording ? base * width : 0);
    std::int64_t depth = 0;
    for (int s = 0; s < pass.segment_count; ++s) depth += pass.segments[static_cast<std::size_t>(s)].depth;
    // Rows are shared out, or blocks of units when there are fewer rows than tiles need.
    const bool by_rows = rows >= 12 * member.size;
    const Member::Range mine = by_rows ? member.share(rows, 12) : Member::Range{0, rows};
    const Member::Range block = by_rows ? Member::Range{0, blocks} : member.share(blocks);
    for (std::int64_t row = mine.begin; row < mine.end; row += kRowBlock) {
      const std::int64_t m = std::min(kRowBlock, mine.end - row);
      for (std::int64_t b = block.begin; b < block.end; ++b) {
        const T* panel = pass.weights.input + b * depth * kGates * W;
        Start start = Start::bias;
        for (int s = 0; s < pass.segment_count; ++s) {
          const InputSegment<T>& segment = pass.segments[static_cast<std::size_t>(s)];
          panel_product<T, kGates>(start, m, segment.depth, segment.rows[base + row], segment.rows.stride, panel,
                                   gates + row * width + b * kGates * W, width, pass.weights.bias + b * kGates * W);
          panel += segment.depth * kGates * W;
          start = Start::sum;
        }
      }
    }
  }

  /// Rows of one step that read their previous state from the same place.
  struct Source {
    std::int64_t first, last;  ///< sequences
    Rows<const T> h;           ///< of sequence 0
    std::array<Rows<const T>, kStates> state;
  };

  /// The previous step's row of each sequence, or the initial state for sequences that begin here.
  static int sources(const Pass& pass, std::int64_t t, std::array<Source, 2>& out) noexcept {
    const BatchLayout& layout = *pass.layout;
    const std::int64_t before = pass.reverse ? t + 1 : t - 1;
    const std::int64_t now = layout.active(t);
    const std::int64_t running = before < 0 || before >= layout.steps() ? 0 : std::min(now, layout.active(before));
    int count = 0;
    if (running > 0) {
      Source& source = out[static_cast<std::size_t>(count++)];
      const std::int64_t row = layout.offset(before);
      source = {0, running, {pass.out[row], pass.out.stride}, {}};
      for (std::size_t s = 0; s < kStates; ++s) {
        source.state[s] = pass.recording ? as_const(pass.record[s].from(row)) : as_const(pass.state[s]);
      }
    }
    if (running < now) {
      Source& source = out[static_cast<std::size_t>(count++)];
      source = {running, now, pass.h0, {}};
      for (std::size_t s = 0; s < kStates; ++s) source.state[s] = as_const(pass.state[s]);
    }
    return count;
  }

  static Rows<const T> as_const(Rows<T> rows) noexcept { return {rows.data, rows.stride}; }

  static void step(const Pass& pass, std::int64_t t, std::int64_t base, const Split& split) noexcept {
    const std::int64_t width = pass.gate_width();
    const std::int64_t offset = pass.layout->offset(t);
    const Rows<T> gates{pass.gates + (offset - base) * width, width};
    std::array<Source, 2> source;
    const int count = sources(pass, t, source);
    for (int index = 0; index < count; ++index) {
      const Source& from = source[static_cast<std::size_t>(index)];
      const std::int64_t first = std::max(from.first, split.first_sequence);
      const std::int64_t last = std::min(from.last, split.last_sequence);
      for (std::int64_t n = first; n < last; n += kRowBlock) {
        const std::int64_t m = std::min(kRowBlock, last - n);
        for (std::int64_t b = split.first_block; b < split.last_block; ++b) {
          panel_product<T, kGates>(Start::sum, m, pass.hidden, from.h[n], from.h.stride,
                                   pass.weights.recurrent + b * pass.hidden * kGates * W, gates[n] + b * kGates * W,
                                   width);
          std::array<Rows<const T>, kStates> previous;
          std::array<Rows<T>, kStates> next;
          for (std::size_t s = 0; s < kStates; ++s) {
            previous[s] = from.state[s].from(n).columns(b * W);
            next[s] = (pass.recording ? pass.record[s].from(offset + n) : pass.state[s].from(n)).columns(b * W);
          }
          pointwise_forward<Cell, T>(m, gates.from(n).columns(b * kGates * W), from.h.from(n).columns(b * W), previous,
                                     next, pass.out.from(offset + n).columns(b * W));
        }
      }
    }
  }

  static void step_back(const Pass& pass, std::int64_t t, const Split& split, const Group& group) noexcept {
    const std::int64_t width = pass.gate_width();
    const std::int64_t offset = pass.layout->offset(t);
    const Rows<T> gates{pass.gates + offset * width, width};
    std::array<Source, 2> source;
    const int count = sources(pass, t, source);
    for (int index = 0; index < count; ++index) {
      const Source& from = source[static_cast<std::size_t>(index)];
      const std::int64_t first = std::max(from.first, split.first_sequence);
      const std::int64_t last = std::min(from.last, split.last_sequence);
      if (first >= last) continue;
      for (std::int64_t b = split.first_block; b < split.last_block; ++b) {
        std::array<Rows<const T>, kStates> previous;
        std::array<Rows<const T>, kStates> next;
        std::array<Rows<T>, kStates> d_state;
        for (std::size_t s = 0; s < kStates; ++s) {
          previous[s] = from.state[s].from(first).columns(b * W);
          next[s] = as_const(pass.record[s].from(offset + first).columns(b * W));
          d_state[s] = pass.d_state[s].from(first).columns(b * W);
        }
        const Rows<const T> d_out =
            pass.d_out.data == nullptr ? Rows<const T>{} : pass.d_out.from(offset + first).columns(b * W);
        pointwise_backward<Cell, T>(last - first, gates.from(first).columns(b * kGates * W),
                                    from.h.from(first).columns(b * W),
                                    as_const(pass.out.from(offset + first).columns(b * W)), previous, next, d_out,
                                    pass.dh.from(first).columns(b * W), d_state);
      }
    }
    if (split.units) group.wait();
    const std::int64_t first = split.first_sequence;
    const std::int64_t last = std::min(pass.layout->active(t), split.last_sequence);
    const Panels<T>& back = pass.back.recurrent;
    const std::int64_t first_panel = split.first_block / kPanelPacks;
    const std::int64_t last_panel = (split.last_block + kPanelPacks - 1) / kPanelPacks;
    if (first < last && split.first_block < split.last_block) {
      rows_times_panels<T>(Start::sum, last - first, gates[first], width, back, first_panel, last_panel, pass.dh[first],
                           pass.dh.stride);
    }
  }
};

LSTMCORE_END_NAMESPACE
