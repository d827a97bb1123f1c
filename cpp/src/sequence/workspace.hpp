// What a pass over a batch reads, writes and leaves for backward, and the taking of room for it.
#pragma once

#include "base/packed_from.hpp"
#include "sequence/blocks/block.hpp"
#include "sequence/pass.hpp"

LSTMCORE_BEGIN_NAMESPACE

/// Reused from batch to batch.
template <class T>
struct StackWorkspace {
  Arena arena;
  BatchLayout layout;
  Rows<const T> x{};  ///< [rows, I]; absent with distinct rows
  DistinctRows<T> distinct;
  std::vector<const T*> distinct_from;  ///< the caller's data of each
  std::vector<std::int32_t> codes_seen;
  std::vector<std::int32_t> place_of;      ///< place of a code, plus one; 0: it has none
  std::vector<DirectionPass<T>> passes;    ///< one per (layer, direction)
  std::vector<Rows<T>> out;                ///< per layer [rows, D·Pp]
  std::vector<Rows<T>> mask;               ///< per layer: factors of its input, absent where all are 1
  std::vector<Rows<T>> sequence_mask;      ///< the part of them that all steps of a sequence share, [N, …]
  std::vector<Rows<T>> masked;             ///< input ⊙ mask, in bf16 where products are; absent: the input itself
  std::vector<BlockPass<T>> block_passes;  ///< layers that are blocks, instead of passes
  std::vector<std::unique_ptr<BlockMemory>> blocks;
  PackedWeights<T> own;       ///< when the caller brings no packed weights
  PackedFrom<T> packed_from;  ///< the parameters that `own` was packed from
  bool recorded = false;      ///< a training pass is waiting for backward
  bool zero_state = true;     ///< that pass was given no initial state

  /// A layer's input in bf16, masked or not: this member's rows.
  void round_input(std::int64_t layer, Member member) noexcept {
    const auto l = static_cast<std::size_t>(layer);
    if (masked[l].data == nullptr) return;  // distinct rows
    const Rows<const T> input = layer == 0 ? x : out[l - 1].read();
    const Rows<const T> from = mask[l].data != nullptr ? masked[l].read() : input;
    const Member::Range range = member.share(layout.rows());
    round_fed(range.end - range.begin, masked[l].stride, from.from(range.begin), masked[l].from(range.begin));
  }

  DirectionPass<T>& pass(const StackShape& shape, std::int64_t layer, int direction) noexcept {
    return passes[static_cast<std::size_t>(layer * shape.directions + direction)];
  }
};

/// Options of a forward pass.
template <class T>
struct ForwardOptions {
  const void* const* initial = nullptr;  ///< per state [L·D, N, width], the caller's order
  void* const* y = nullptr;              ///< per sequence [T_n, D·P]
  void* const* final_state = nullptr;    ///< like initial
  const double* input_mean = nullptr;    ///< x → (x − mean)·scale; both or none
  const double* input_scale = nullptr;
  std::uint64_t weights = 0;        ///< Settled::number() of the parameters
  bool record = false;              ///< a training pass: regularisers are active
  std::uint64_t dropout_seed = 0;   ///< of their masks
  std::uint64_t sequence_seed = 0;  ///< of the masks that all steps of a sequence share; 0: dropout_seed
  int n_threads = 1;
  CancelToken* cancel = nullptr;
};

template <class T>
struct BackwardOptions {
  const void* const* d_final = nullptr;
  void* const* dx = nullptr;
  void* const* d_initial = nullptr;
  T* gradient = nullptr;
  std::int64_t bptt_steps = 0;  ///< 0: whole sequences
  int n_threads = 1;
  CancelToken* cancel = nullptr;
};

template <class T>
struct WorkspaceBuilder {
  const RecurrentConfig& config;
  const StackShape& shape;
  const CellKernels<T>& kernels;
  const std::vector<SlotTensors>& slots;
  ForwardOptions<T> options;

  void input(const Sequences& x, bool gather, StackWorkspace<T>& ws) const {
    ws.x = {gather ? ws.arena.template take<T>(ws.layout.rows() * shape.input) : static_cast<const T*>(x.data[0]),
            shape.input};
  }

  void forward(const Sequences& x, const PackedWeights<T>& packed, const T* parameters, bool gather,
               StackWorkspace<T>& ws) const {
    const std::int64_t rows = ws.layout.rows();
    Arena& arena = ws.arena;
    if (find_distinct(x, ws)) {
      ws.x = {};
    } else {
      input(x, gather, ws);
    }
    ws.passes.assign(static_cast<std::size_t>(shape.slots()), DirectionPass<T>{});
    const auto layers = static_cast<std::size_t>(shape.layers);
    ws.out.assign(layers, {});
    ws.mask.assign(layers, {});
    ws.sequence_mask.assign(layers, {});
    ws.masked.assign(layers, {});
    const std::int64_t width = shape.directions * padded<T>(shape.output);
    for (std::int64_t layer = 0; layer < shape.layers; ++layer) {
      const auto l = static_cast<std::size_t>(layer);
      ws.out[l] = {arena.take<T>(rows * width), width};
      const bool variational = config.variational_dropout > 0;
      const std::int64_t in = layer == 0 ? shape.input : width;
      const bool masks = options.record && (variational || (layer > 0 && config.dropout > 0));
      const bool rounds = shape.bf16 && !(layer == 0 && ws.distinct.count > 0);  // distinct rows are where they lie
      if (masks || rounds) ws.masked[l] = {arena.take<T>(rows * in), in};
      if (masks) {
        ws.mask[l] = {arena.take<T>(rows * in), in};
        if (variational) ws.sequence_mask[l] = {arena.take<T>(ws.layout.sequences() * in), in};
      }
      for (int direction = 0; direction < shape.directions; ++direction) {
        prepare(layer, direction, packed, parameters, ws);
      }
    }
  }

  void backward(const BackwardOptions<T>& back, const std::array<Rows<T>, 2>& d_out, StackWorkspace<T>& ws) const {
    const std::int64_t hp = padded<T>(shape.hidden);
    const std::int64_t pp = padded<T>(shape.output);
    const std::int64_t rows = ws.layout.rows();
    const std::int64_t sequences = ws.layout.sequences();
    const auto take = [&](std::int64_t count, std::int64_t width) {
      return Rows<T>{ws.arena.template take<T>(count * width), width};
    };
    for (std::int64_t slot = 0; slot < shape.slots(); ++slot) {
      const std::int64_t layer = slot / shape.directions;
      const auto direction = static_cast<int>(slot % shape.directions);
      DirectionPass<T>& p = ws.pass(shape, layer, direction);
      p.back = BackPacking<T>::allocate(shape, layer, back.dx != nullptr, ws.arena);
      p.bptt_steps = back.bptt_steps;
      p.d_out = d_out[static_cast<std::size_t>((shape.layers - 1 - layer) % 2)].read().columns(direction * pp);
      p.dh = take(sequences, pp);
      gather_state(back.d_final, nullptr, 0, slot, p.dh, ws.layout);
      for (std::size_t s = 0; s < shape.cell.states; ++s) {
        p.d_state[s] = take(sequences, hp);
        gather_state(back.d_final, nullptr, s + 1, slot, p.d_state[s], ws.layout);
        if (p.hold_state.data != nullptr) p.d_held[s] = take(sequences, hp);
      }
      if (!p.general) continue;
      p.d_units = take(sequences, hp);
      if (p.fed_mask.data != nullptr) {
        p.dh_fed = take(sequences, pp);
        std::fill_n(p.dh_fed.data, sequences * pp, T{0});
      }
      if (shape.cell.normalised) p.d_recurrent = take(sequences, p.gate_width());
      if (shape.cell.normalised_state) p.d_normal_state = take(rows, hp);
      if (shape.cell.projection > 0) p.d_projected = take(rows, pp);
    }
  }

 private:
  /// Whether the first layer reads each kind of input once; ws.distinct is set then.
  bool find_distinct(const Sequences& x, StackWorkspace<T>& ws) const {
    constexpr std::int64_t kMostCodes = 1 << 22;  // codes are places in a table
    ws.distinct = {};
    const bool masked = options.record && config.variational_dropout > 0;
    if (x.codes == nullptr || shape.cell.normalised || shape.int8 || options.input_mean != nullptr || masked) {
      return false;
    }
    const BatchLayout& layout = ws.layout;
    std::int32_t largest = 0;
    for (std::int64_t n = 0; n < x.count; ++n) {
      largest = std::max(largest, *std::max_element(x.codes[n], x.codes[n] + x.lengths[n]));
    }
    if (largest >= kMostCodes) return false;
    if (ws.place_of.size() <= static_cast<std::size_t>(largest)) {
      ws.place_of.resize(static_cast<std::size_t>(largest) + 1, 0);
    }
    auto* const of = ws.arena.template take<std::int32_t>(layout.rows());
    auto* const first = ws.arena.template take<std::int64_t>(layout.rows());
    // Three rows in four at most: copying gates and adding up their gradients is work, too.
    const auto most = static_cast<std::size_t>(layout.rows() * 3 / 4);
    ws.distinct_from.clear();
    std::vector<std::int32_t>& seen = ws.codes_seen;
    seen.clear();
    for (std::int64_t n = 0; n < layout.sequences() && seen.size() <= most; ++n) {
      const auto at = static_cast<std::size_t>(layout.original(n));
      const T* from = static_cast<const T*>(x.data[at]);
      for (std::int64_t t = 0; t < layout.length(n); ++t, from += shape.input) {
        std::int32_t& place = ws.place_of[static_cast<std::size_t>(x.codes[at][t])];
        if (place == 0) {
          first[seen.size()] = layout.row(t, n);
          seen.push_back(x.codes[at][t]);
          ws.distinct_from.push_back(from);
          place = static_cast<std::int32_t>(seen.size());
        }
        of[layout.row(t, n)] = place - 1;
      }
    }
    for (const std::int32_t code : seen) ws.place_of[static_cast<std::size_t>(code)] = 0;
    if (seen.size() > most) return false;
    const auto count = static_cast<std::int64_t>(seen.size());
    ws.distinct = {count, {ws.arena.template take<T>(count * shape.input), shape.input}, of, first};
    return true;
  }

  void prepare(std::int64_t layer, int direction, const PackedWeights<T>& packed, const T* parameters,
               StackWorkspace<T>& ws) const {
    const CellSpec& cell = shape.cell;
    const auto l = static_cast<std::size_t>(layer);
    const std::int64_t slot = layer * shape.directions + direction;
    const std::int64_t rows = ws.layout.rows();
    const std::int64_t sequences = ws.layout.sequences();
    const std::int64_t hp = padded<T>(shape.hidden);
    const std::int64_t pp = padded<T>(shape.output);
    const auto take = [&](std::int64_t count, std::int64_t width) {
      return Rows<T>{ws.arena.template take<T>(count * width), width};
    };
    DirectionPass<T>& p = ws.pass(shape, layer, direction);
    p.shape = &shape;
    p.kernels = &kernels;
    p.layout = &ws.layout;
    p.reverse = shape.runs_backwards(direction);
    p.recording = options.record;
    p.keeps_states = options.record || cell.feedback > 0;
    p.segment_count = layer == 0 ? 1 : shape.directions;
    for (int s = 0; s < p.segment_count; ++s) {
      const auto i = static_cast<std::size_t>(s);
      const bool masked = ws.masked[l].data != nullptr;
      if (layer == 0) {
        p.segments[i] = {masked ? ws.masked[l].read() : ws.x, shape.input};
      } else {
        p.segments[i] = {(masked ? ws.masked[l] : ws.out[l - 1]).read().columns(s * pp), shape.output};
      }
    }
    if (layer == 0 && ws.distinct.count > 0) {
      p.distinct = &ws.distinct;
      p.distinct_gates = take(ws.distinct.count, gate_distance<T>(shape.gates * hp));
    }
    p.weights = packed.slot(slot);
    if (shape.int8) take_rounded(std::max(shape.layer_input(layer), shape.output), rows, ws.arena, p);
    const Rows<T> h0 = take(sequences, pp);
    gather_state(options.initial, parameters, 0, slot, h0, ws.layout);
    p.h0 = h0.read();
    p.out = ws.out[l].columns(direction * pp);
    for (std::size_t s = 0; s < cell.states; ++s) {
      p.state[s] = take(sequences, hp);
      gather_state(options.initial, parameters, s + 1, slot, p.state[s], ws.layout);
      if (p.keeps_states) p.record[s] = take(rows, hp);
    }
    if (shape.rounds_fed()) {
      p.fed = take(rows, pp);
      p.fed0 = take(sequences, pp).read();
    }
    const std::int64_t width = shape.gates * hp;
    const std::int64_t steps = options.record ? rows : sequences;
    p.gates = take(options.record ? rows : buffer_rows(ws.layout, width), gate_distance<T>(width));
    if (cell.separate) p.recurrent = take(steps, gate_distance<T>(width));
    regularise(p, rows, steps, sequences, hp, pp, take);
    p.general = cell.normalised || cell.reset_before || cell.projection > 0 || p.fed_mask.data != nullptr ||
                p.hold_h.data != nullptr || p.hold_state.data != nullptr;
    if (!p.general) return;
    p.scratch = take(sequences, std::max(hp, pp));
    if (cell.projection > 0) p.units = take(steps, hp);
    if (cell.reset_before) p.reset_fed = take(steps, hp);
    if (cell.normalised) {
      if (options.record) {
        p.normal_x = take(rows, width);
        p.deviation_x = take(rows, kMaxNormGroups);
      }
      p.normal_r = take(steps, width);
      p.deviation_r = take(steps, kMaxNormGroups);
    }
    if (cell.normalised_state) {
      p.normal_state = take(steps, hp);
      p.deviation_state = take(steps, kMaxNormGroups);
    }
  }

  template <class Take>
  void regularise(DirectionPass<T>& p, std::int64_t rows, std::int64_t steps, std::int64_t sequences, std::int64_t hp,
                  std::int64_t pp, Take&& take) const {
    // Outside training zoneout is its expectation: one row of the probability for all steps.
    const auto held = [&](double probability, std::int64_t count, std::int64_t width) {
      if (options.record) return take(rows, width).read();
      Rows<T> row = take(1, width);
      std::fill_n(row.data, width, T{0});
      std::fill_n(row.data, count, static_cast<T>(probability));
      row.stride = 0;
      return row.read();
    };
    if (config.zoneout_hidden > 0) {
      p.hold_h = held(config.zoneout_hidden, shape.output, pp);
      p.fresh_h = take(steps, pp);
    }
    if (config.zoneout_cell > 0 && shape.cell.states > 0) {
      p.hold_state = held(config.zoneout_cell, shape.hidden, hp);
      for (std::size_t s = 0; s < shape.cell.states; ++s) p.fresh[s] = take(steps, hp);
    }
    if (!options.record) return;
    if (config.recurrent_dropout > 0) p.keep = take(rows, hp).read();
    if (config.variational_dropout > 0 && (shape.cell.recurrent || shape.cell.vectors > 0)) {
      p.fed_mask = take(sequences, pp).read();
      if (p.fed.data != nullptr) return;  // rounded
      p.fed = take(rows, pp);
      p.fed0 = take(sequences, pp).read();
    }
  }

  void take_rounded(std::int64_t depth, std::int64_t rows, Arena& arena, DirectionPass<T>& p) const {
    const std::int64_t count = std::min(rows, kRowBlock);
    const std::int64_t stride = Int8Rows::stride_for(depth);
    auto* const rounded = arena.take<Int8Rows>(options.n_threads);
    for (int member = 0; member < options.n_threads; ++member) {
      rounded[member] = {arena.take<std::int8_t>(count * stride), arena.take<std::uint8_t>(count * stride),
                         arena.take<float>(count), arena.take<std::int32_t>(count), stride};
    }
    p.int8 = &int8_kernel();
    p.rounded = rounded;
  }

  /// State `index` of one slot from the caller's [L·D, N, width] to sorted, padded rows. Without a source: the learned
  /// state where there is one (parameters), else zeros. What units of a block share is kept with the first of them.
  void gather_state(const void* const* states, const T* parameters, std::size_t index, std::int64_t slot, Rows<T> to,
                    const BatchLayout& layout) const noexcept {
    const std::int64_t n = layout.sequences();
    std::fill_n(to.data, n * to.stride, T{0});
    const std::int64_t learned = slots[static_cast<std::size_t>(slot)].initial[index];
    const bool from_parameters = states == nullptr && parameters != nullptr && learned >= 0;
    if (states == nullptr && !from_parameters) return;
    const std::int64_t width = shape.state_width(index);
    const std::int64_t every = index == 0 ? 1 : shape.hidden / width;
    const T* const given =
        from_parameters ? parameters + learned : static_cast<const T*>(states[index]) + slot * n * width;
    for (std::int64_t i = 0; i < n; ++i) {
      const T* const from = from_parameters ? given : given + layout.original(i) * width;
      for (std::int64_t k = 0; k < width; ++k) to[i][k * every] = from[k];
    }
  }

  /// Rows that `gates` must hold when nothing is recorded.
  static std::int64_t buffer_rows(const BatchLayout& layout, std::int64_t width) noexcept {
    return std::min(layout.rows(), chunk_rows<T>(width) + layout.sequences());
  }
};

LSTMCORE_END_NAMESPACE
