// One layer in one direction: the loop over time, forward and backward (BPTT).
//
// A group of threads shares the work in one of two ways: each takes some sequences through all steps and meets nobody,
// or, when there are too few sequences or the weights are large, each takes some units and all meet once a step. Steps
// that need whole rows of units (sequence/general_step.hpp) are never cut by units.
#pragma once

#include "sequence/general_step.hpp"

LSTMCORE_BEGIN_NAMESPACE

template <class T>
class Direction {
 public:
  using Pass = DirectionPass<T>;
  static constexpr int W = kLanes<T>;

  // --- one step of one sequence, as pointers that stay good while the pass does -------------------------------------

  /// W · one part of the row `row` of the input, for some blocks of units. gates: of that row.
  static SingleProduct<T> single_input(const Pass& pass, int segment, std::int64_t row, Member::Range blocks,
                                       T* gates) noexcept {
    const std::int64_t width = std::int64_t{pass.shape->gates} * W;
    const bool bf16 = pass.shape->bf16;
    std::int64_t panel = 0, before = 0;  // rows
    for (int s = 0; s < pass.segment_count; ++s) {
      if (s == segment) before = panel;
      panel += panel_rows(bf16, pass.segments[static_cast<std::size_t>(s)].depth);
    }
    const InputSegment<T>& from = pass.segments[static_cast<std::size_t>(segment)];
    // Under layer normalisation the bias comes after it.
    const Start first = pass.shape->cell.normalised ? Start::zero : Start::bias;
    return {row_product<T>(pass.shape->gates, segment == 0 ? first : Start::sum, bf16),
            from.depth,
            from.rows[row],
            blocks.end - blocks.begin,
            pass.weights.input + (blocks.begin * panel + before) * width,
            panel * width,
            gates + blocks.begin * width,
            pass.weights.bias + blocks.begin * width};
  }

  /// R · h₋, and what the cell makes of it. Its gates fit into L1 as a whole, so all products come first; and blocks
  /// are to the cell what rows are otherwise, one call for all, so that one block's chain of operations hides behind
  /// the next one's. No product where it is put together block by block, or where there is none.
  static SingleProduct<T> single_recurrent(const Pass& pass, std::int64_t offset, Rows<T> gates, const Source<T>& from,
                                           std::int64_t n, Member::Range blocks, ForwardBlock<T>& block) noexcept {
    const StackShape& shape = *pass.shape;
    const CellSpec& cell = shape.cell;
    const std::int64_t width = std::int64_t{shape.gates} * W;
    const std::int64_t first = blocks.begin;
    const Rows<T> recurrent = pass.at(pass.recurrent, offset, n);
    block.rows = blocks.end - first;
    GeneralStep<T>::fill_block(pass, offset, gates, from, n, first, block);
    block.recurrent = cut(recurrent, 0, first * width).read();
    for (std::size_t s = 0; s < cell.states; ++s) block.next[s] = pass.next_state(s, offset, n).columns(first * W);
    block.h = pass.out.from(offset + n).columns(first * W);
    GeneralStep<T>::rows_are_blocks(shape, block);
    for (std::size_t s = 0; s < cell.states; ++s) block.next[s].stride = W;
    if (!cell.recurrent || cell.heads > 1 || cell.feedback > 0 || pass.int8 != nullptr) return {};
    const std::int64_t next = panel_rows(shape.bf16, shape.fed_width()) * width;
    return {row_product<T>(shape.gates, cell.separate ? Start::bias : Start::sum, shape.bf16),
            shape.output,
            from.fed[n],
            block.rows,
            pass.weights.recurrent + first * next,
            next,
            (cell.separate ? recurrent : gates)[0] + first * width,
            (cell.separate ? pass.weights.recurrent_bias : pass.weights.bias) + first * width};
  }

  // --- all steps ----------------------------------------------------------------------------------------------------

  static void forward(const Pass& pass, const Group& group) noexcept {
    const BatchLayout& layout = *pass.layout;
    const Split split(pass, group.member, forward_unit(pass));
    if (pass.rounds_fed()) {
      const Member::Range mine = group.member.share(layout.sequences());
      const Rows<const T> from = pass.fed_mask.data != nullptr ? pass.fed0 : pass.h0;  // masked already
      round_fed(mine.end - mine.begin, padded<T>(pass.shape->output), from.from(mine.begin),
                Rows<T>{const_cast<T*>(pass.fed0.data), pass.fed0.stride}.from(mine.begin));
    }
    const std::int64_t limit = chunk_rows<T>(pass.gate_width());
    std::int64_t done = 0;
    if (pass.distinct != nullptr) {
      distinct_product(pass, group.member);
      group.wait();
    }
    while (done < layout.steps()) {
      // Steps of this chunk, in time order [t0, t1), taken from the end in the reverse direction.
      std::int64_t count = 0;
      std::int64_t rows = 0;
      while (done + count < layout.steps()) {
        const std::int64_t more = layout.active(pass.time(done + count));
        if (count > 0 && rows + more > limit) break;
        rows += more;
        ++count;
      }
      const std::int64_t t0 = pass.reverse ? layout.steps() - done - count : done;
      const std::int64_t base = layout.offset(t0);
      input_product(pass, base, rows, group.member);
      group.wait();
      if (pass.shape->cell.normalised) {
        const Member::Range mine = group.member.share(rows);
        GeneralStep<T>::normalise_input(pass, base, mine.begin, mine.end);
        group.wait();
      }
      if (group.member.id == 0 && group.cancel != nullptr) *group.stop = group.check();
      for (std::int64_t k = done; k < done + count; ++k) {
        step(pass, pass.time(k), pass.recording ? 0 : base, split);
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
    const Split split(pass, group.member, kPanelPacks);  // the panels of recurrent_gradient()
    // About every 5 ms of arithmetic.
    const std::int64_t check_every =
        std::clamp<std::int64_t>(250'000'000 / (layout.sequences() * pass.gate_width() * pass.hidden()), 1, 4096);
    for (std::int64_t k = layout.steps() - 1; k >= 0; --k) {
      if (group.cancel != nullptr && k % check_every == 0) {
        group.wait();
        if (group.member.id == 0) *group.stop = group.check();
        group.wait();
        if (*group.stop) return;
      }
      step_back(pass, pass.time(k), split, group);
    }
    group.wait();
  }

  /// Threads of `requested` that find work in the steps of a layer.
  static int useful_threads(const Pass& pass, int requested, bool backward) noexcept {
    const int directions = pass.shape->directions;
    const int group = directions == 2 ? (requested + 1) / 2 : requested;
    if (by_units(pass, {0, group}, backward ? kPanelPacks : forward_unit(pass))) return requested;
    return static_cast<int>(std::min<std::int64_t>(requested, pass.layout->sequences() * directions));
  }

  // A step at a time, for drivers that have work between the steps: sequences [first, last) on the calling thread,
  // last at most those that run at t. Not with 8-bit weights.

  static void forward_step(const Pass& pass, std::int64_t t, std::int64_t first, std::int64_t last) noexcept {
    if (first >= last) return;
    const std::int64_t base = pass.layout->offset(t);
    input_product(pass, base, {first, last}, {0, blocks_of<T>(pass.hidden())}, nullptr);
    if (pass.shape->cell.normalised) GeneralStep<T>::normalise_input(pass, base, first, last);
    step(pass, t, pass.recording ? 0 : base, Split(pass, first, last));
  }

  static void backward_step(const Pass& pass, std::int64_t t, std::int64_t first, std::int64_t last) noexcept {
    if (first < last) step_back(pass, t, Split(pass, first, last), Group{});
  }

 private:
  /// What one thread of a group takes.
  struct Split {
    bool units = false;
    std::int64_t first_sequence = 0, last_sequence = 0;
    std::int64_t first_block = 0, last_block = 0;
    Int8Rows* rounded = nullptr;  ///< this thread's room; 8-bit weights only

    Split(const Pass& pass, std::int64_t first, std::int64_t last) noexcept
        : first_sequence(first), last_sequence(last), last_block(blocks_of<T>(pass.hidden())) {}

    Split(const Pass& pass, Member member, std::int64_t unit) noexcept {
      const BatchLayout& layout = *pass.layout;
      last_sequence = layout.sequences();
      last_block = blocks_of<T>(pass.hidden());
      if (pass.int8 != nullptr) rounded = pass.rounded + member.id;
      if (member.size == 1) return;
      if (!by_units(pass, member, unit)) {
        first_sequence = layout.boundary(member.id, member.size);
        last_sequence = layout.boundary(member.id + 1, member.size);
      } else {
        units = true;
        const Member::Range range = member.share(last_block, unit);
        first_block = range.begin;
        last_block = range.end;
      }
    }
  };

  /// Blocks of units that stay together in forward: a single row is multiplied by two panels at a time.
  static std::int64_t forward_unit(const Pass& pass) noexcept { return pass.layout->sequences() == 1 ? 2 : 1; }

  /// Whether each thread takes some units rather than some sequences; `unit` blocks of units stay together.
  static bool by_units(const Pass& pass, Member member, std::int64_t unit) noexcept {
    constexpr std::int64_t kFewestSequences = 4;  // below that a register tile runs half empty
    if (pass.general || member.size == 1) return false;
    const std::int64_t sequences = pass.layout->sequences();
    const std::int64_t R = pass.gate_width() * pass.shape->fed_width();
    const std::int64_t blocks = blocks_of<T>(pass.hidden());
    const std::int64_t pieces = (blocks + unit - 1) / unit;
    // Operations of one thread in a step. A meeting takes as long as 8000: one sequence of 32 units took 7% longer with
    // two threads than with one, 47 units gain 10%, 64 units a third.
    const std::int64_t work = 2 * R * sequences / member.size;
    if (sequences < kFewestSequences * member.size) return pieces >= member.size && work >= 8000;
    // A thread that takes sequences reads all of R in every step, and from 256 kB on not from L1 or a part of L2: with
    // two threads cutting by units gained 5% at H = 128, 8% at 256, 17% at 512 and 1024, and nothing at 64. Not where
    // steps are so short that meeting is felt (10 µs), nor where pieces do not come out even.
    const auto bytes = static_cast<std::int64_t>(pass.int8 != nullptr ? 1 : pass.shape->bf16 ? 2 : sizeof(T));
    const std::int64_t most = (pieces + member.size - 1) / member.size * unit;
    return R * bytes >= 1 << 18 && work >= 1'000'000 && 8 * most * member.size <= 9 * blocks;
  }

  static void input_product(const Pass& pass, std::int64_t base, std::int64_t rows, Member member) noexcept {
    const std::int64_t blocks = blocks_of<T>(pass.hidden());
    Int8Rows* const rounded = pass.int8 == nullptr ? nullptr : pass.rounded + member.id;
    const std::int64_t unit = forward_unit(pass);
    if (by_units(pass, member, unit)) {  // those of the steps, whose gates then lie in this thread's cache
      input_product(pass, base, {0, rows}, member.share(blocks, unit), rounded);
      return;
    }
    // Rows are shared out, or blocks of units when there are fewer rows than tiles need.
    if (rows >= 12 * member.size) {
      input_product(pass, base, member.share(rows, 12), {0, blocks}, rounded);
    } else {
      input_product(pass, base, {0, rows}, member.share(blocks), rounded);
    }
  }

  /// rounded: the calling thread's room; 8-bit weights only.
  static void input_product(const Pass& pass, std::int64_t base, Member::Range mine, Member::Range block,
                            Int8Rows* rounded) noexcept {
    const int gates = pass.shape->gates;
    const Rows<T> to = pass.gates.from(pass.recording ? base : 0);
    const bool bf16 = pass.shape->bf16;
    std::int64_t depth = 0, panel_depth = 0;
    for (int s = 0; s < pass.segment_count; ++s) {
      depth += pass.segments[static_cast<std::size_t>(s)].depth;
      panel_depth += panel_rows(bf16, pass.segments[static_cast<std::size_t>(s)].depth);
    }
    // Under layer normalisation the bias comes after it.
    const Start first = pass.shape->cell.normalised ? Start::zero : Start::bias;
    if (pass.distinct != nullptr) {
      const std::int64_t column = block.begin * gates * W, count = (block.end - block.begin) * gates * W;
      for (std::int64_t row = mine.begin; row < mine.end; ++row) {
        std::copy_n(pass.distinct_gates[pass.distinct->of[base + row]] + column, count, to[row] + column);
      }
      return;
    }
    if (mine.end - mine.begin == 1 && pass.int8 == nullptr) {
      for (int s = 0; s < pass.segment_count; ++s) {
        single_input(pass, s, base + mine.begin, block, to[mine.begin]).run();
      }
      return;
    }
    for (std::int64_t row = mine.begin; row < mine.end; row += kRowBlock) {
      const std::int64_t m = std::min(kRowBlock, mine.end - row);
      if constexpr (std::is_same_v<T, float>) {
        if (pass.int8 != nullptr) {
          int8_input(pass, base + row, m, depth, block, to.from(row), *rounded);
          continue;
        }
      }
      for (std::int64_t b = block.begin; b < block.end; ++b) {
        const T* panel = pass.weights.input + b * panel_depth * gates * W;
        Start start = first;
        for (int s = 0; s < pass.segment_count; ++s) {
          const InputSegment<T>& segment = pass.segments[static_cast<std::size_t>(s)];
          weight_product<T>(bf16, gates, start, m, segment.depth, segment.rows[base + row], segment.rows.stride, panel,
                            to[row] + b * gates * W, to.stride, pass.weights.bias + b * gates * W,
                            where_from<T>(panel_depth * pass.gate_width()));
          panel += panel_rows(bf16, segment.depth) * gates * W;
          start = Start::sum;
        }
      }
    }
  }

  /// W x + b of distinct rows: this thread's share of them.
  static void distinct_product(const Pass& pass, Member member) noexcept {
    const int gates = pass.shape->gates;
    const Member::Range blocks = member.share(blocks_of<T>(pass.hidden()));
    const Rows<T>& x = pass.distinct->rows;
    const Rows<T>& to = pass.distinct_gates;
    const std::int64_t depth = pass.shape->input, panel = panel_rows(pass.shape->bf16, depth);
    for (std::int64_t row = 0; row < pass.distinct->count; row += kRowBlock) {
      const std::int64_t m = std::min(kRowBlock, pass.distinct->count - row);
      for (std::int64_t b = blocks.begin; b < blocks.end; ++b) {
        const std::int64_t at = b * gates * W;
        weight_product<T>(pass.shape->bf16, gates, Start::bias, m, depth, x[row], x.stride,
                          pass.weights.input + at * panel, to[row] + at, to.stride, pass.weights.bias + at,
                          where_from<T>(panel * pass.gate_width()));
      }
    }
  }

  /// The same with 8-bit weights: rows [row, row + m) of all segments.
  static void int8_input(const Pass& pass, std::int64_t row, std::int64_t m, std::int64_t depth, Member::Range blocks,
                         Rows<T> to, Int8Rows& rounded) noexcept {
    const int gates = pass.shape->gates;
    std::array<Rows<const T>, 2> segments;
    std::array<std::int64_t, 2> depths{};
    for (std::size_t s = 0; s < static_cast<std::size_t>(pass.segment_count); ++s) {
      segments[s] = pass.segments[s].rows.from(row);
      depths[s] = pass.segments[s].depth;
    }
    pass.int8->quantise(m, segments.data(), depths.data(), pass.segment_count, rounded);
    const Int8Panels& weights = pass.weights.input8;
    for (std::int64_t b = blocks.begin; b < blocks.end; ++b) {
      const std::int64_t at = b * gates * W;
      pass.int8->product(gates, Start::bias, m, rounded, 0, depth,
                         weights.weights + b * Int8Panels::block_size(gates, depth), weights.scale + at,
                         weights.minus_sums + at, to.data + at, to.stride, pass.weights.bias + at);
    }
  }

  /// What feeds R at sequences [n, n + m), in 8 bits where weights are.
  static void quantise_fed(const Pass& pass, const Source<T>& from, std::int64_t n, std::int64_t m,
                           const Split& split) noexcept {
    if constexpr (std::is_same_v<T, float>) {
      if (pass.int8 == nullptr) return;
      const Rows<const T> fed = from.fed.from(n);
      pass.int8->quantise(m, &fed, &pass.shape->output, 1, *split.rounded);
    }
  }

  /// recurrent_product() with 8-bit weights and what feeds it rounded already.
  static void int8_recurrent(const Pass& pass, std::int64_t m, std::int64_t block, const Int8Rows& rounded,
                             Rows<T> dest) noexcept {
    const StackShape& shape = *pass.shape;
    const std::int64_t at = block * shape.gates * W;
    const HeadRange columns = columns_of_block<T>(shape, block);
    const Int8Panels& weights = pass.weights.recurrent8;
    const bool separate = shape.cell.separate;
    pass.int8->product(
        shape.gates, separate ? Start::bias : Start::sum, m, rounded, columns.first, columns.last - columns.first,
        weights.weights + block * Int8Panels::block_size(shape.gates, shape.fed_width()), weights.scale + at,
        weights.minus_sums + at, dest.data, dest.stride, separate ? pass.weights.recurrent_bias + at : nullptr);
  }

  static void step(const Pass& pass, std::int64_t t, std::int64_t base, const Split& split) noexcept {
    const std::int64_t offset = pass.layout->offset(t);
    const Rows<T> gates = pass.gates.from(offset - base);
    std::array<Source<T>, 2> source;
    const int count = sources(pass, t, source);
    for (int index = 0; index < count; ++index) {
      const Source<T>& from = source[static_cast<std::size_t>(index)];
      const std::int64_t first = std::max(from.first, split.first_sequence);
      const std::int64_t last = std::min(from.last, split.last_sequence);
      for (std::int64_t n = first; n < last; n += kRowBlock) {
        const std::int64_t m = std::min(kRowBlock, last - n);
        if (pass.general) {
          GeneralStep<T>::forward(pass, offset, gates.from(n), from, n, m);
        } else if (m == 1) {
          single_step(pass, offset, gates.from(n), from, n, split);
        } else {
          fused_step(pass, offset, gates.from(n), from, n, m, split);
        }
      }
    }
  }

  /// Block by block: product, then the cell while the block's gates are in L1.
  static void fused_step(const Pass& pass, std::int64_t offset, Rows<T> gates, const Source<T>& from, std::int64_t n,
                         std::int64_t m, const Split& split) noexcept {
    const StackShape& shape = *pass.shape;
    const CellSpec& cell = shape.cell;
    const std::int64_t width = std::int64_t{shape.gates} * W;
    const Rows<T> recurrent = pass.at(pass.recurrent, offset, n);
    ForwardBlock<T> block{};
    block.rows = m;
    quantise_fed(pass, from, n, m, split);
    for (std::int64_t b = split.first_block; b < split.last_block; ++b) {
      if (cell.recurrent) block_product(pass, (cell.separate ? recurrent : gates), from, n, m, b, split);
      GeneralStep<T>::fill_block(pass, offset, gates, from, n, b, block);
      block.recurrent = cut(recurrent, 0, b * width).read();
      for (std::size_t s = 0; s < cell.states; ++s) block.next[s] = pass.next_state(s, offset, n).columns(b * W);
      block.h = pass.out.from(offset + n).columns(b * W);
      pass.kernels->forward(block);
      if (pass.rounds_fed()) round_fed(m, W, block.h.read(), pass.fed.from(offset + n).columns(b * W));
    }
  }

  static void single_step(const Pass& pass, std::int64_t offset, Rows<T> gates, const Source<T>& from, std::int64_t n,
                          const Split& split) noexcept {
    const Member::Range blocks{split.first_block, split.last_block};
    if (blocks.begin >= blocks.end) return;
    ForwardBlock<T> block{};
    const SingleProduct<T> product = single_recurrent(pass, offset, gates, from, n, blocks, block);
    if (product.product != nullptr) {
      product.run();
    } else if (pass.shape->cell.recurrent) {
      // Heads, states that feed back, 8-bit weights: each block's product is put together by itself.
      const Rows<T> dest = pass.shape->cell.separate ? pass.at(pass.recurrent, offset, n) : gates;
      quantise_fed(pass, from, n, 1, split);
      for (std::int64_t b = blocks.begin; b < blocks.end; ++b) block_product(pass, dest, from, n, 1, b, split);
    }
    pass.kernels->forward(block);
    if (pass.rounds_fed()) {
      round_fed(1, (blocks.end - blocks.begin) * W, block.h.read(),
                pass.fed.from(offset + n).columns(blocks.begin * W));
    }
  }

  /// R · what feeds it, for one block; dest: the gates' rows, or those of separate cells.
  static void block_product(const Pass& pass, Rows<T> dest, const Source<T>& from, std::int64_t n, std::int64_t m,
                            std::int64_t b, const Split& split) noexcept {
    const StackShape& shape = *pass.shape;
    const std::int64_t width = std::int64_t{shape.gates} * W;
    const bool separate = shape.cell.separate;
    if constexpr (std::is_same_v<T, float>) {
      if (pass.int8 != nullptr) {
        int8_recurrent(pass, m, b, *split.rounded, dest.columns(b * width));
        return;
      }
    }
    recurrent_product(pass, from, n, m, b,
                      pass.weights.recurrent + b * panel_rows(shape.bf16, shape.fed_width()) * width,
                      separate ? Start::bias : Start::sum, separate ? pass.weights.recurrent_bias + b * width : nullptr,
                      dest.columns(b * width));
  }

  static void step_back(const Pass& pass, std::int64_t t, const Split& split, const Group& group) noexcept {
    const std::int64_t offset = pass.layout->offset(t);
    std::array<Source<T>, 2> source;
    const int count = sources(pass, t, source);
    for (int index = 0; index < count; ++index) {
      const Source<T>& from = source[static_cast<std::size_t>(index)];
      const std::int64_t first = std::max(from.first, split.first_sequence);
      const std::int64_t last = std::min(from.last, split.last_sequence);
      if (first >= last) continue;
      if (pass.general) {
        GeneralStep<T>::backward(pass, offset, from, first, last - first);
      } else {
        fused_step_back(pass, offset, from, first, last - first, split);
      }
    }
    const std::int64_t first = split.first_sequence;
    const std::int64_t last = std::min(pass.layout->active(t), split.last_sequence);
    if (!pass.general && pass.back.recurrent.data != nullptr) {
      if (split.units) group.wait();
      if (first < last && split.first_block < split.last_block) {
        const Rows<T>& gates = pass.shape->cell.separate ? pass.recurrent : pass.gates;
        recurrent_gradient(pass, gates.from(offset + first).read(), pass.back.recurrent, first, last - first,
                           split.first_block / kPanelPacks, (split.last_block + kPanelPacks - 1) / kPanelPacks,
                           pass.dh);
      }
    }
    if (pass.bptt_steps > 0) cut_gradients(pass, t, split);
  }

  static void fused_step_back(const Pass& pass, std::int64_t offset, const Source<T>& from, std::int64_t n,
                              std::int64_t m, const Split& split) noexcept {
    BackwardBlock<T> block{};
    const auto fill = [&](std::int64_t b) {
      GeneralStep<T>::fill_block(pass, offset, from, n, b, block);
      block.d_out = cut(pass.d_out, offset + n, b * W);
      block.dh = pass.dh.from(n).columns(b * W);
    };
    if (m == 1 && split.last_block > split.first_block) {  // as in single_step()
      block.rows = split.last_block - split.first_block;
      fill(split.first_block);
      GeneralStep<T>::rows_are_blocks(*pass.shape, block);
      block.d_out.stride = block.dh.stride = W;
      for (std::size_t s = 0; s < pass.shape->cell.states; ++s) block.next[s].stride = block.d_state[s].stride = W;
      pass.kernels->backward(block);
      round_gradients(pass, offset + n, m, split.first_block, split.last_block);
      return;
    }
    block.rows = m;
    for (std::int64_t b = split.first_block; b < split.last_block; ++b) {
      fill(b);
      pass.kernels->backward(block);
    }
    round_gradients(pass, offset + n, m, split.first_block, split.last_block);
  }

  /// Truncated BPTT: nothing flows from the first step of a window, counted from each sequence's own start, to the
  /// window before.
  static void cut_gradients(const Pass& pass, std::int64_t t, const Split& split) noexcept {
    const std::int64_t last = std::min(pass.layout->active(t), split.last_sequence);
    const std::int64_t begin = split.first_block * W;
    const std::int64_t count = (split.last_block - split.first_block) * W;
    for (std::int64_t n = split.first_sequence; n < last; ++n) {
      const std::int64_t own = pass.reverse ? pass.layout->length(n) - 1 - t : t;
      if (own == 0 || own % pass.bptt_steps != 0) continue;
      if (pass.general) {  // never cut by units; h may be narrower than the states
        std::fill_n(pass.dh[n], padded<T>(pass.shape->output), T{0});
        if (pass.dh_fed.data != nullptr) std::fill_n(pass.dh_fed[n], padded<T>(pass.shape->output), T{0});
      } else {
        std::fill_n(pass.dh[n] + begin, count, T{0});
      }
      for (std::size_t s = 0; s < pass.shape->cell.states; ++s) std::fill_n(pass.d_state[s][n] + begin, count, T{0});
    }
  }
};

LSTMCORE_END_NAMESPACE
