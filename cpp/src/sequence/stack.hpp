// A stack of layers over a ragged batch: everything of a pass in one parallel region.
#pragma once

#include "base/rng.hpp"
#include "kernels/weight_gradient.hpp"
#include "sequence/parameters.hpp"

#include <Eigen/Core>

#include <type_traits>

LSTMCORE_BEGIN_NAMESPACE

/// Memory as an Eigen array, for element-wise work.
template <class T>
using Elements =
    Eigen::Map<std::conditional_t<std::is_const_v<T>, const Eigen::Array<std::remove_const_t<T>, Eigen::Dynamic, 1>,
                                  Eigen::Array<T, Eigen::Dynamic, 1>>>;

/// What one pass over a batch reads, writes and leaves for backward. Reused from batch to batch.
template <class T, class Cell>
struct StackWorkspace {
  using Pass = DirectionPass<T, Cell>;

  Arena arena;
  BatchLayout layout;
  Rows<const T> x{};                   ///< [rows, I]
  std::vector<Pass> passes;            ///< one per (layer, direction)
  std::vector<Rows<T>> out;            ///< per layer [rows, D·Hp]
  std::vector<Rows<T>> mask;           ///< per layer but the last, dropout factors 0 or 1/(1 − p); only when dropping
  std::vector<Rows<T>> dropped;        ///< out ⊙ mask
  PackedWeights<T, Cell::kGates> own;  ///< when the caller brings no packed weights
  std::vector<T> packed_from;          ///< the parameters that `own` was packed from
  bool recorded = false;               ///< a training pass is waiting for backward
};

/// Options of a forward pass.
template <class T>
struct ForwardOptions {
  const void* const* initial = nullptr;  ///< per state [L·D, N, H], the caller's order
  void* const* y = nullptr;              ///< per sequence [T_n, D·H]
  void* const* final_state = nullptr;    ///< like initial
  const double* input_mean = nullptr;    ///< x → (x − mean)·scale; both or none
  const double* input_scale = nullptr;
  bool record = false;
  double dropout = 0.0;  ///< 0 outside training
  std::uint64_t dropout_seed = 0;
  int n_threads = 1;
  CancelToken* cancel = nullptr;
};

template <class T>
struct BackwardOptions {
  const void* const* d_final = nullptr;
  void* const* dx = nullptr;
  void* const* d_initial = nullptr;
  T* gradient = nullptr;
  int n_threads = 1;
  CancelToken* cancel = nullptr;
};

template <class T, class Cell>
class Stack {
 public:
  static constexpr int kGates = Cell::kGates;
  static constexpr std::size_t kStates = Cell::kStates;
  using Workspace = StackWorkspace<T, Cell>;
  using Pass = typename Workspace::Pass;
  using Packed = PackedWeights<T, kGates>;

  explicit Stack(const RecurrentConfig& config) : shape_(config, kGates), tensors_(recurrent_tensors(shape_)) {}

  const StackShape& shape() const noexcept { return shape_; }
  const std::vector<TensorInfo>& tensors() const noexcept { return tensors_; }

  /// Threads worth waking for this much arithmetic; `requested` as in the config.
  int threads_for(std::int64_t rows, int requested) const noexcept {
    constexpr double kFlopsPerThread = 1.5e6;  // about 20 µs, four times the cost of waking a thread that spins
    const double flops = 2.0 * static_cast<double>(rows) * static_cast<double>(shape_.gate_rows() * shape_.slots()) *
                         static_cast<double>(shape_.layer_input(shape_.layers - 1) + shape_.hidden);
    const int useful = static_cast<int>(std::min(1024.0, flops / kFlopsPerThread));
    return std::clamp(useful, 1, std::max(1, usable_threads(requested)));
  }

  /// packed: weights packed by the caller, or null to pack `parameters` here. False when cancelled.
  bool forward(const Sequences& x, const T* parameters, const Packed* packed, const ForwardOptions<T>& options,
               Workspace& ws) const {
    ws.recorded = false;
    ws.arena.reset();
    ws.layout.assign(x.lengths, x.count);
    const bool pack = packed == nullptr && !same_weights(parameters, ws);
    if (packed == nullptr) packed = &ws.own;
    const bool gather = x.count > 1 || options.input_mean != nullptr || options.record;  // a recording outlives x
    prepare(x, *packed, options, gather, ws);
    Crew crew;
    parallel(options.n_threads, [&](Member member) {
      if (gather) gather_input(x, options, ws, member);
      if (pack) ws.own.pack(shape_, parameters, member);
      crew.team.wait(member.size);
      for (std::int64_t layer = 0; layer < shape_.layers; ++layer) {
        run_directions(member, crew, options.cancel, [&](int direction, const Group& group) {
          Direction<T, Cell>::forward(pass(ws, layer, direction), group);
        });
        crew.team.wait(member.size);
        if (options.cancel != nullptr && options.cancel->stopped()) return;
        if (layer + 1 < shape_.layers && options.dropout > 0) {
          drop(options, layer, ws, member);
          crew.team.wait(member.size);
        }
      }
      if (options.y != nullptr) scatter_output(options.y, ws, member);
      if (options.final_state != nullptr) scatter_final(options, ws, member);
    });
    if (pack) ws.packed_from.assign(parameters, parameters + total_count(tensors_));
    if (options.cancel != nullptr && options.cancel->stopped()) return false;
    ws.recorded = options.record;
    return true;
  }

  /// fill_top(d_out, member): writes the gradient of the last layer's outputs, [rows, D·Hp] with zeros in the padding;
  /// every member is called and takes its share. False when cancelled. Uses the recording up.
  template <class FillTop>
  bool backward(const T* parameters, const BackwardOptions<T>& options, Workspace& ws, FillTop&& fill_top) const {
    ws.recorded = false;
    const std::int64_t rows = ws.layout.rows();
    const std::int64_t hp = padded<T>(shape_.hidden);
    const std::int64_t width = shape_.directions * hp;
    std::array<Rows<T>, 2> d_out{};
    for (std::size_t i = 0; i < (shape_.layers > 1 ? 2U : 1U); ++i)
      d_out[i] = {ws.arena.template take<T>(rows * width), width};
    Rows<T> dx{};
    if (options.dx != nullptr) {
      const std::int64_t stride = padded<T>(shape_.input);
      dx = {ws.arena.template take<T>(rows * stride), stride};
    }
    auto** const h_before = ws.arena.template take<const T*>(rows * shape_.directions);
    const std::int64_t scratch_size = WeightGradient<T>::scratch(std::max(shape_.input, shape_.hidden));
    T* const scratch = ws.arena.template take<T>(scratch_size * options.n_threads);
    for (std::int64_t layer = 0; layer < shape_.layers; ++layer) {
      for (int direction = 0; direction < shape_.directions; ++direction) {
        Pass& p = pass(ws, layer, direction);
        p.back = BackPacking<T, kGates>::allocate(shape_, layer, options.dx != nullptr, ws.arena);
        p.d_out = as_const(d_out[static_cast<std::size_t>((shape_.layers - 1 - layer) % 2)]).columns(direction * hp);
        const std::int64_t slot = layer * shape_.directions + direction;
        p.dh = {ws.arena.template take<T>(ws.layout.sequences() * hp), hp};
        gather_state(options.d_final, 0, slot, p.dh, ws.layout);
        for (std::size_t s = 0; s < kStates; ++s) {
          p.d_state[s] = {ws.arena.template take<T>(ws.layout.sequences() * hp), hp};
          gather_state(options.d_final, s + 1, slot, p.d_state[s], ws.layout);
        }
      }
    }
    Crew crew;
    parallel(options.n_threads, [&](Member member) {
      for (std::int64_t i = 0; i < shape_.slots(); ++i) {
        BackPacking<T, kGates>::pack(shape_, i / shape_.directions, static_cast<int>(i % shape_.directions), parameters,
                                     ws.passes[static_cast<std::size_t>(i)].back, member);
      }
      fill_top(d_out[0], member);
      crew.team.wait(member.size);
      for (std::int64_t layer = shape_.layers - 1; layer >= 0; --layer) {
        run_directions(member, crew, options.cancel, [&](int direction, const Group& group) {
          Direction<T, Cell>::backward(pass(ws, layer, direction), group);
          if (group.member.id == 0) previous_h(pass(ws, layer, direction), h_before + direction * rows);
        });
        crew.team.wait(member.size);
        if (options.cancel != nullptr && options.cancel->stopped()) return;
        weight_gradients(layer, options.gradient, h_before, ws, scratch + member.id * scratch_size, member);
        const std::size_t below = static_cast<std::size_t>((shape_.layers - layer) % 2);
        if (layer > 0) {
          input_gradient(layer, d_out[below], ws, member);
        } else if (options.dx != nullptr) {
          input_gradient(layer, dx, ws, member);
        }
        crew.team.wait(member.size);
      }
      if (options.dx != nullptr) scatter_rows(options.dx, as_const(dx), shape_.input, 1, 0, ws.layout, member);
      if (options.d_initial != nullptr && member.id == 0) scatter_initial(options.d_initial, ws);
    });
    return options.cancel == nullptr || !options.cancel->stopped();
  }

  Pass& pass(Workspace& ws, std::int64_t layer, int direction) const noexcept {
    return ws.passes[static_cast<std::size_t>(layer * shape_.directions + direction)];
  }

  /// Row of the last step that a direction computes for a sequence.
  static std::int64_t final_row(const BatchLayout& layout, int direction, std::int64_t n) noexcept {
    return direction == 0 ? layout.row(layout.length(n) - 1, n) : layout.row(0, n);
  }

  static Rows<const T> as_const(Rows<T> rows) noexcept { return {rows.data, rows.stride}; }

  /// Packs `parameters` unless that is what the workspace's packed weights were made from.
  bool same_weights(const T* parameters, Workspace& ws) const {
    const auto count = static_cast<std::size_t>(total_count(tensors_));
    if (ws.packed_from.size() == count && std::memcmp(ws.packed_from.data(), parameters, count * sizeof(T)) == 0) {
      return true;
    }
    ws.packed_from.clear();  // set again when they are packed: what comes in between may throw
    if (!ws.own.allocated()) ws.own.allocate(shape_);
    return false;
  }

 private:
  struct Crew {
    SpinBarrier team;
    std::array<SpinBarrier, 2> group;
    std::array<bool, 2> stop{};
  };

  /// Both directions at once where there are threads for it, else one after the other.
  template <class Run>
  void run_directions(Member member, Crew& crew, CancelToken* cancel, Run&& run) const {
    if (shape_.directions == 2 && member.size > 1) {
      const int direction = member.id % 2;
      const auto d = static_cast<std::size_t>(direction);
      const Member in_group{member.id / 2, (member.size + 1 - direction) / 2};
      run(direction, Group{in_group, &crew.group[d], &crew.stop[d], cancel, member.id == 0});
      return;
    }
    for (int direction = 0; direction < shape_.directions; ++direction) {
      run(direction, Group{member, &crew.group[0], crew.stop.data(), cancel, member.id == 0});
    }
  }

  void prepare(const Sequences& x, const Packed& packed, const ForwardOptions<T>& options, bool gather,
               Workspace& ws) const {
    const std::int64_t rows = ws.layout.rows();
    const std::int64_t sequences = ws.layout.sequences();
    const std::int64_t hp = padded<T>(shape_.hidden);
    const std::int64_t gate_width = kGates * hp;
    Arena& arena = ws.arena;
    ws.x = {gather ? arena.take<T>(rows * shape_.input) : static_cast<const T*>(x.data[0]), shape_.input};
    ws.passes.assign(static_cast<std::size_t>(shape_.slots()), Pass{});
    const auto layers = static_cast<std::size_t>(shape_.layers);
    ws.out.resize(layers);
    ws.mask.assign(layers, {});
    ws.dropped.assign(layers, {});
    const std::int64_t width = shape_.directions * hp;
    for (std::int64_t layer = 0; layer < shape_.layers; ++layer) {
      const auto l = static_cast<std::size_t>(layer);
      ws.out[l] = {arena.take<T>(rows * width), width};
      if (layer + 1 < shape_.layers && options.dropout > 0) {
        ws.mask[l] = {arena.take<T>(rows * width), width};
        ws.dropped[l] = {arena.take<T>(rows * width), width};
      }
      for (int direction = 0; direction < shape_.directions; ++direction) {
        Pass& p = pass(ws, layer, direction);
        p.layout = &ws.layout;
        p.hidden = shape_.hidden;
        p.reverse = direction == 1;
        p.segment_count = layer == 0 ? 1 : shape_.directions;
        for (int s = 0; s < p.segment_count; ++s) {
          const auto i = static_cast<std::size_t>(s);
          if (layer == 0) {
            p.segments[i] = {ws.x, shape_.input};
          } else {
            const Rows<T>& below = options.dropout > 0 ? ws.dropped[l - 1] : ws.out[l - 1];
            p.segments[i] = {as_const(below).columns(s * hp), shape_.hidden};
          }
        }
        const std::int64_t slot = layer * shape_.directions + direction;
        p.weights = packed.slot(slot);
        const Rows<T> h0{arena.take<T>(sequences * hp), hp};
        gather_state(options.initial, 0, slot, h0, ws.layout);
        p.h0 = as_const(h0);
        p.out = ws.out[l].columns(direction * hp);
        p.recording = options.record;
        for (std::size_t s = 0; s < kStates; ++s) {
          p.state[s] = {arena.take<T>(sequences * hp), hp};
          gather_state(options.initial, s + 1, slot, p.state[s], ws.layout);
          if (options.record) p.record[s] = {arena.take<T>(rows * hp), hp};
        }
        const std::int64_t gate_rows = options.record ? rows : Direction<T, Cell>::buffer_rows(ws.layout, gate_width);
        p.gates = arena.take<T>(gate_rows * gate_width);
      }
    }
  }

  /// State `index` of one slot from the caller's [L·D, N, H] to sorted, padded rows; zeros without a source.
  void gather_state(const void* const* states, std::size_t index, std::int64_t slot, Rows<T> to,
                    const BatchLayout& layout) const noexcept {
    const std::int64_t n = layout.sequences();
    std::fill_n(to.data, n * to.stride, T{0});
    if (states == nullptr) return;
    const T* from = static_cast<const T*>(states[index]) + slot * n * shape_.hidden;
    for (std::int64_t i = 0; i < n; ++i) std::copy_n(from + layout.original(i) * shape_.hidden, shape_.hidden, to[i]);
  }

  void scatter_state(void* const* states, std::size_t index, std::int64_t slot, std::int64_t n, const T* from,
                     const BatchLayout& layout) const noexcept {
    T* to = static_cast<T*>(states[index]) + (slot * layout.sequences() + layout.original(n)) * shape_.hidden;
    std::copy_n(from, shape_.hidden, to);
  }

  void gather_input(const Sequences& x, const ForwardOptions<T>& options, Workspace& ws, Member member) const noexcept {
    const std::int64_t width = shape_.input;
    T* const rows = const_cast<T*>(ws.x.data);
    const Member::Range range = member.share(ws.layout.sequences());
    for (std::int64_t n = range.begin; n < range.end; ++n) {
      const T* from = static_cast<const T*>(x.data[ws.layout.original(n)]);
      for (std::int64_t t = 0; t < ws.layout.length(n); ++t, from += width) {
        T* to = rows + ws.layout.row(t, n) * width;
        if (options.input_mean == nullptr) {
          std::copy_n(from, width, to);
        } else {
          // In double, so that features far from zero lose nothing.
          Elements<T>(to, width) = ((Elements<const T>(from, width).template cast<double>() -
                                     Elements<const double>(options.input_mean, width)) *
                                    Elements<const double>(options.input_scale, width))
                                       .template cast<T>();
        }
      }
    }
  }

  void drop(const ForwardOptions<T>& options, std::int64_t layer, Workspace& ws, Member member) const noexcept {
    const auto l = static_cast<std::size_t>(layer);
    const std::int64_t width = ws.out[l].stride;
    const Member::Range range = member.share(ws.layout.rows());
    const std::uint64_t stream = mix(options.dropout_seed, static_cast<std::uint64_t>(layer));
    const auto keep = static_cast<T>(1.0 / (1.0 - options.dropout));
    // 32 random bits an element, drawn from its row, direction and unit: the mask depends on nothing else, and in
    // particular not on the padding, which differs between engines.
    const auto threshold = static_cast<std::uint64_t>(options.dropout * 4294967296.0);
    const std::int64_t hidden = shape_.hidden;
    const std::int64_t hp = padded<T>(hidden);
    const std::int64_t pairs = (hidden + 1) / 2;
    for (std::int64_t row = range.begin; row < range.end; ++row) {
      const T* from = ws.out[l][row];
      T* mask = ws.mask[l][row];
      T* to = ws.dropped[l][row];
      for (int direction = 0; direction < shape_.directions; ++direction) {
        T* factors = mask + direction * hp;
        const std::int64_t first = (row * shape_.directions + direction) * pairs;
        for (std::int64_t pair = 0; pair < pairs; ++pair) {
          const std::uint64_t bits = mix(stream, static_cast<std::uint64_t>(first + pair));
          factors[2 * pair] = (bits & 0xffffffffU) < threshold ? T{0} : keep;
          if (2 * pair + 1 < hidden) factors[2 * pair + 1] = (bits >> 32U) < threshold ? T{0} : keep;
        }
        std::fill(factors + hidden, factors + hp, T{0});
      }
      Elements<T>(to, width) = Elements<const T>(from, width) * Elements<const T>(mask, width);
    }
  }

  /// Rows of `segments` column groups of `count` columns each, Hp apart, to the caller's sequences.
  void scatter_rows(void* const* to, Rows<const T> rows, std::int64_t count, int segments, std::int64_t distance,
                    const BatchLayout& layout, Member member) const noexcept {
    const Member::Range range = member.share(layout.sequences());
    for (std::int64_t n = range.begin; n < range.end; ++n) {
      T* out = static_cast<T*>(to[layout.original(n)]);
      for (std::int64_t t = 0; t < layout.length(n); ++t) {
        const T* from = rows[layout.row(t, n)];
        for (int s = 0; s < segments; ++s) {
          std::copy_n(from + s * distance, count, out);
          out += count;
        }
      }
    }
  }

  void scatter_output(void* const* y, Workspace& ws, Member member) const noexcept {
    scatter_rows(y, as_const(ws.out.back()), shape_.hidden, shape_.directions, padded<T>(shape_.hidden), ws.layout,
                 member);
  }

  void scatter_final(const ForwardOptions<T>& options, Workspace& ws, Member member) const noexcept {
    const Member::Range range = member.share(ws.layout.sequences());
    for (std::int64_t slot = 0; slot < shape_.slots(); ++slot) {
      const int direction = static_cast<int>(slot % shape_.directions);
      const Pass& p = ws.passes[static_cast<std::size_t>(slot)];
      for (std::int64_t n = range.begin; n < range.end; ++n) {
        const std::int64_t row = final_row(ws.layout, direction, n);
        scatter_state(options.final_state, 0, slot, n, p.out[row], ws.layout);
        for (std::size_t s = 0; s < kStates; ++s) {
          scatter_state(options.final_state, s + 1, slot, n, p.recording ? p.record[s][row] : p.state[s][n], ws.layout);
        }
      }
    }
  }

  void scatter_initial(void* const* d_initial, Workspace& ws) const noexcept {
    for (std::int64_t slot = 0; slot < shape_.slots(); ++slot) {
      const Pass& p = ws.passes[static_cast<std::size_t>(slot)];
      for (std::int64_t n = 0; n < ws.layout.sequences(); ++n) {
        scatter_state(d_initial, 0, slot, n, p.dh[n], ws.layout);
        for (std::size_t s = 0; s < kStates; ++s) scatter_state(d_initial, s + 1, slot, n, p.d_state[s][n], ws.layout);
      }
    }
  }

  /// For every row the h that its step started from.
  static void previous_h(const Pass& p, const T** before) noexcept {
    const BatchLayout& layout = *p.layout;
    for (std::int64_t t = 0; t < layout.steps(); ++t) {
      const std::int64_t source = p.reverse ? t + 1 : t - 1;
      const std::int64_t running = source < 0 || source >= layout.steps() ? 0 : layout.active(source);
      for (std::int64_t n = 0; n < layout.active(t); ++n) {
        *before++ = n < running ? p.out[layout.row(source, n)] : p.h0[n];
      }
    }
  }

  void weight_gradients(std::int64_t layer, T* gradient, const T* const* h_before, Workspace& ws, T* scratch,
                        Member member) const noexcept {
    const std::int64_t rows = ws.layout.rows();
    for (int direction = 0; direction < shape_.directions; ++direction) {
      const Pass& p = pass(ws, layer, direction);
      const SlotOffsets at(shape_, layer, direction);
      const std::int64_t width = p.gate_width();
      std::array<GradientOperand<T>, 3> operands{};
      std::int64_t column = 0;
      int count = 0;
      for (; count < p.segment_count; ++count) {
        const InputSegment<T>& segment = p.segments[static_cast<std::size_t>(count)];
        operands[static_cast<std::size_t>(count)] = {segment.rows, nullptr, segment.depth, gradient + at.input + column,
                                                     shape_.layer_input(layer)};
        column += segment.depth;
      }
      operands[static_cast<std::size_t>(count++)] = {
          {}, h_before + direction * rows, shape_.hidden, gradient + at.recurrent, shape_.hidden};
      const Member::Range range = member.share(width, WeightGradient<T>::kTileRows);
      WeightGradient<T>::run(rows, {p.gates, width}, kGates, shape_.hidden, range.begin, range.end, operands.data(),
                             count, gradient + at.bias, scratch);
    }
  }

  /// Gradient of a layer's input: of x, or of the outputs of the layer below, dropout undone.
  void input_gradient(std::int64_t layer, Rows<T> to, Workspace& ws, Member member) const noexcept {
    const Member::Range range = member.share(ws.layout.rows(), 12);
    if (range.begin >= range.end) return;
    const std::int64_t hp = padded<T>(shape_.hidden);
    for (int direction = 0; direction < shape_.directions; ++direction) {
      const Pass& p = pass(ws, layer, direction);
      const std::int64_t width = p.gate_width();
      for (int s = 0; s < p.segment_count; ++s) {
        const Panels<T>& back = p.back.input[static_cast<std::size_t>(s)];
        rows_times_panels<T>(direction == 0 ? Start::zero : Start::sum, range.end - range.begin,
                             p.gates + range.begin * width, width, back, 0, back.count(), to[range.begin] + s * hp,
                             to.stride);
      }
    }
    if (layer == 0 || ws.mask[static_cast<std::size_t>(layer - 1)].data == nullptr) return;
    const Rows<T>& mask = ws.mask[static_cast<std::size_t>(layer - 1)];
    for (std::int64_t row = range.begin; row < range.end; ++row) {
      Elements<T>(to[row], to.stride) *= Elements<const T>(mask[row], to.stride);
    }
  }

  StackShape shape_;
  std::vector<TensorInfo> tensors_;
};

LSTMCORE_END_NAMESPACE
