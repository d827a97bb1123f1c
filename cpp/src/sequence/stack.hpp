// A stack of layers over a ragged batch: everything of a pass in one parallel region.
#pragma once

#include "sequence/blocks/block_stack.hpp"
#include "sequence/gradients.hpp"
#include "sequence/masks.hpp"
#include "sequence/workspace.hpp"

LSTMCORE_BEGIN_NAMESPACE

template <class>
class AttentionDecoder;

template <class T>
class Stack {
 public:
  using Workspace = StackWorkspace<T>;
  using Pass = DirectionPass<T>;
  using Packed = PackedWeights<T>;

  /// int8: 8-bit weights, for forward without a recording; cells that Direction runs block by block.
  explicit Stack(const RecurrentConfig& config, bool int8 = false)
      : config_(config),
        shape_(config, int8),
        kernels_(kernels_of<T>(config)),
        tensors_(recurrent_tensors(shape_, &slots_)) {
    if (shape_.cell.blocks()) blocks_ = std::make_unique<BlockStack<T>>(config_, shape_);
  }
  Stack(const Stack&) = delete;
  Stack& operator=(const Stack&) = delete;

  const StackShape& shape() const noexcept { return shape_; }
  const std::vector<TensorInfo>& tensors() const noexcept { return tensors_; }
  const std::vector<SlotTensors>& slots() const noexcept { return slots_; }

  /// Threads worth waking for this much arithmetic; `requested` as in the config.
  int threads_for(std::int64_t rows, int requested) const noexcept {
    constexpr double kFlopsPerThread = 1.5e6;  // about 20 µs, four times the cost of waking a thread that spins
    const double flops =
        static_cast<double>(rows) *
        (blocks_ != nullptr ? blocks_->flops_per_row()
                            : 2.0 * static_cast<double>(shape_.gate_rows() * shape_.slots()) *
                                  static_cast<double>(shape_.layer_input(shape_.layers - 1) + shape_.hidden));
    const int useful = static_cast<int>(std::min(1024.0, flops / kFlopsPerThread));
    return std::clamp(useful, 1, std::max(1, usable_threads(requested)));
  }

  /// Takes room for passes with these options.
  WorkspaceBuilder<T> builder(const ForwardOptions<T>& options) const {
    return {config_, shape_, kernels_, slots_, options};
  }

  /// All weights for forward, on the calling thread.
  void pack(const T* parameters, Packed& packed) const {
    if (!packed.allocated()) allocate(packed);
    if (blocks_ != nullptr) {
      blocks_->pack(parameters, packed.blocks(), Member{});
      return;
    }
    packed.expand(shape_, slots_, parameters, Member{});
    packed.pack(shape_, slots_, parameters, Member{});
  }

  /// packed: weights packed by the caller, or null to pack `parameters` here. False when cancelled.
  bool forward(const Sequences& x, const T* parameters, const Packed* packed, const ForwardOptions<T>& options,
               Workspace& ws) const {
    ws.recorded = false;
    ws.arena.reset();
    ws.layout.assign(x.lengths, x.count);
    const bool pack = packed == nullptr && parameters != nullptr && !same_weights(parameters, options, ws);
    if (packed == nullptr) packed = &ws.own;
    const bool gather = x.count > 1 || options.input_mean != nullptr || options.record;  // a recording outlives x
    const WorkspaceBuilder<T> builder = this->builder(options);
    if (blocks_ != nullptr) {
      builder.input(x, gather, ws);
      blocks_->prepare(options, packed->blocks(), ws);
    } else {
      builder.forward(x, *packed, parameters, gather, ws);
    }
    Crew crew;
    parallel(team(ws, options.n_threads, false), [&](Member member) {
      if (ws.distinct.count > 0) {
        gather_distinct(ws, member);
      } else if (gather) {
        gather_input(x, options, ws, member);
      }
      if (pack && blocks_ != nullptr) {
        blocks_->pack(ws.packed_from.copy(), ws.own.blocks(), member);
      } else if (pack) {
        pack_own(crew, ws, member);
      }
      if (options.record && blocks_ == nullptr) fill_masks(options, ws, member);
      if (blocks_ != nullptr) blocks_->fill_masks(options, ws, member);
      crew.team.wait(member.size);
      for (std::int64_t layer = 0; layer < shape_.layers; ++layer) {
        if (ws.mask[static_cast<std::size_t>(layer)].data != nullptr) {
          mask_input(options, layer, ws, member);
          crew.team.wait(member.size);
        }
        if (shape_.bf16) {
          ws.round_input(layer, member);
          crew.team.wait(member.size);
        }
        if (blocks_ != nullptr) {
          blocks_->forward(layer, ws, whole_team(member, crew, options.cancel));
        } else {
          run_directions(member, crew, options.cancel, [&](int direction, const Group& group) {
            Direction<T>::forward(ws.pass(shape_, layer, direction), group);
          });
        }
        crew.team.wait(member.size);
        if (options.cancel != nullptr && options.cancel->stopped()) return;
      }
      if (options.y != nullptr) scatter_output(options.y, ws, member);
      if (options.final_state != nullptr && blocks_ == nullptr) scatter_final(options, ws, member);
    });
    if (pack) ws.packed_from.packed();
    if (options.cancel != nullptr && options.cancel->stopped()) return false;
    ws.recorded = options.record;
    ws.zero_state = options.initial == nullptr;
    return true;
  }

  /// fill_top(d_out, member): writes the gradient of the last layer's outputs, [rows, D·Pp] with zeros in the padding;
  /// every member is called and takes its share. False when cancelled. Uses the recording up.
  template <class FillTop>
  bool backward(const T* parameters, const BackwardOptions<T>& options, Workspace& ws, FillTop&& fill_top) const {
    ws.recorded = false;
    const std::int64_t rows = ws.layout.rows();
    const std::int64_t pp = padded<T>(shape_.output);
    const std::int64_t width = shape_.directions * pp;
    std::array<Rows<T>, 2> d_out{};
    for (std::size_t i = 0; i < (shape_.layers > 1 ? 2U : 1U); ++i)
      d_out[i] = {ws.arena.template take<T>(rows * width), width};
    Rows<T> dx{};
    if (options.dx != nullptr) {
      const std::int64_t stride = padded<T>(shape_.input);
      dx = {ws.arena.template take<T>(rows * stride), stride};
    }
    if (blocks_ != nullptr) return backward_blocks(parameters, options, d_out, dx, ws, fill_top);
    const BackwardRoom room = prepare_backward(options, d_out, ws);
    const std::array<PreviousRows<T>, 2>& previous = room.previous;
    Crew crew;
    parallel(team(ws, options.n_threads, true), [&](Member member) {
      pack_back(parameters, crew, ws, member);
      fill_top(d_out[0], member);
      crew.team.wait(member.size);
      T* const own_scratch = room.scratch_of(member);
      for (std::int64_t layer = shape_.layers - 1; layer >= 0; --layer) {
        run_directions(member, crew, options.cancel, [&](int direction, const Group& group) {
          const Pass& pass = ws.pass(shape_, layer, direction);
          Direction<T>::backward(pass, group);
          if (group.member.id == 0) {
            LayerGradients<T>::find_previous(pass, previous[static_cast<std::size_t>(direction)]);
          }
        });
        crew.team.wait(member.size);
        if (options.cancel != nullptr && options.cancel->stopped()) return;
        layer_gradients(layer, options, previous, own_scratch, crew, ws, member);
        const auto below = static_cast<std::size_t>((shape_.layers - layer) % 2);
        if (layer > 0) {
          input_gradient(layer, d_out[below], ws, member);
        } else if (options.dx != nullptr) {
          if (ws.distinct.count > 0) crew.team.wait(member.size);
          input_gradient(layer, dx, ws, member);
        }
        crew.team.wait(member.size);
      }
      if (options.dx != nullptr && ws.distinct.count > 0) {
        scatter_distinct(options.dx, dx.read(), ws, member);
      } else if (options.dx != nullptr) {
        scatter_rows(options.dx, dx.read(), shape_.input, 1, 0, ws.layout, member);
      }
      if (member.id != 0) return;
      finish_initial(ws);
      if (options.d_initial != nullptr) scatter_initial(options.d_initial, ws);
      if (shape_.learns_initial_state) learned_gradient(options.gradient, ws);
    });
    return options.cancel == nullptr || !options.cancel->stopped();
  }

  /// Row of the last step that a direction computes for a sequence.
  static std::int64_t final_row(const BatchLayout& layout, bool reverse, std::int64_t n) noexcept {
    return reverse ? layout.row(0, n) : layout.row(layout.length(n) - 1, n);
  }

  /// Whether the workspace's packed weights were made from these parameters; if not, they are to be packed.
  bool same_weights(const T* parameters, const ForwardOptions<T>& options, Workspace& ws) const {
    if (ws.packed_from.same(parameters, total_count(tensors_), options.weights)) return true;
    if (!ws.own.allocated()) allocate(ws.own);
    return false;
  }

 private:
  friend class AttentionDecoder<T>;

  struct Crew {
    SpinBarrier team;
    std::array<SpinBarrier, 2> group;
    std::array<bool, 2> stop{};
  };

  /// What the gradients of weights need beside the passes.
  struct BackwardRoom {
    std::array<PreviousRows<T>, 2> previous;
    T* scratch = nullptr;
    std::int64_t scratch_size = 0;

    T* scratch_of(Member member) const noexcept { return scratch + member.id * scratch_size; }
  };

  /// Threads that a pass wakes.
  int team(Workspace& ws, int requested, bool backward) const noexcept {
    if (blocks_ != nullptr) return requested;
    return Direction<T>::useful_threads(ws.pass(shape_, 0, 0), requested, backward);
  }

  BackwardRoom prepare_backward(const BackwardOptions<T>& options, const std::array<Rows<T>, 2>& d_out,
                                Workspace& ws) const {
    BackwardRoom room;
    for (std::size_t d = 0; d < static_cast<std::size_t>(shape_.directions); ++d) {
      room.previous[d] = LayerGradients<T>::allocate(shape_, ws.layout.rows(), ws.arena);
    }
    room.scratch_size = LayerGradients<T>::scratch(shape_);
    room.scratch = ws.arena.template take<T>(room.scratch_size * options.n_threads);
    builder({}).backward(options, d_out, ws);
    if (shape_.cell.expands()) clear_reduced(options.gradient);
    return room;
  }

  /// This member's share of the weights for forward.
  void pack_own(Crew& crew, Workspace& ws, Member member) const {
    const T* const parameters = ws.packed_from.copy();
    if (shape_.cell.expands()) {
      ws.own.expand(shape_, slots_, parameters, member);
      crew.team.wait(member.size);
    }
    ws.own.pack(shape_, slots_, parameters, member);
  }

  /// This member's share of the weights for backward.
  void pack_back(const T* parameters, Crew& crew, Workspace& ws, Member member) const {
    if (shape_.cell.expands()) {
      for (std::int64_t i = 0; i < shape_.slots(); ++i) {
        const auto slot = static_cast<std::size_t>(i);
        Expansion<T>::expand(shape_, i / shape_.directions, slots_[slot], parameters, ws.passes[slot].back.room,
                             member);
      }
      crew.team.wait(member.size);
    }
    for (std::int64_t i = 0; i < shape_.slots(); ++i) {
      const auto slot = static_cast<std::size_t>(i);
      BackPacking<T>::pack(shape_, i / shape_.directions, slots_[slot], parameters, ws.passes[slot].back, member);
    }
  }

  void allocate(Packed& packed) const {
    if (blocks_ != nullptr) {
      packed.allocate_blocks(blocks_->packed_size());
    } else {
      packed.allocate(shape_);
    }
  }

  static Group whole_team(Member member, Crew& crew, CancelToken* cancel) noexcept {
    return {member, &crew.group[0], crew.stop.data(), cancel, member.id == 0};
  }

  template <class FillTop>
  bool backward_blocks(const T* parameters, const BackwardOptions<T>& options, const std::array<Rows<T>, 2>& d_out,
                       Rows<T> dx, Workspace& ws, FillTop&& fill_top) const {
    blocks_->prepare_backward(parameters, options, d_out, dx, ws);
    Crew crew;
    parallel(options.n_threads, [&](Member member) {
      fill_top(d_out[0], member);
      crew.team.wait(member.size);
      for (std::int64_t layer = shape_.layers - 1; layer >= 0; --layer) {
        blocks_->backward(layer, ws, whole_team(member, crew, options.cancel));
        crew.team.wait(member.size);
        if (options.cancel != nullptr && options.cancel->stopped()) return;
      }
      if (options.dx != nullptr) scatter_rows(options.dx, dx.read(), shape_.input, 1, 0, ws.layout, member);
    });
    return options.cancel == nullptr || !options.cancel->stopped();
  }

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
      run(direction, whole_team(member, crew, cancel));
    }
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
          for (std::int64_t k = 0; k < width; ++k) {
            to[k] = static_cast<T>((static_cast<double>(from[k]) - options.input_mean[k]) * options.input_scale[k]);
          }
        }
      }
    }
  }

  void gather_distinct(Workspace& ws, Member member) const noexcept {
    const Member::Range range = member.share(ws.distinct.count);
    for (std::int64_t k = range.begin; k < range.end; ++k) {
      std::copy_n(ws.distinct_from[static_cast<std::size_t>(k)], shape_.input, ws.distinct.rows[k]);
      if (shape_.bf16) bf16::round_row(ws.distinct.rows[k], shape_.input, ws.distinct.rows[k]);
    }
  }

  /// The gradient of steps with the same data goes to the first of them, zeros to the others.
  void scatter_distinct(void* const* to, Rows<const T> d, const Workspace& ws, Member member) const noexcept {
    const DistinctRows<T>& distinct = ws.distinct;
    const Member::Range range = member.share(ws.layout.sequences());
    for (std::int64_t n = range.begin; n < range.end; ++n) {
      T* out = static_cast<T*>(to[ws.layout.original(n)]);
      for (std::int64_t t = 0; t < ws.layout.length(n); ++t, out += shape_.input) {
        const std::int64_t row = ws.layout.row(t, n);
        const std::int64_t place = distinct.of[row];
        if (distinct.first[place] == row) {
          std::copy_n(d[place], shape_.input, out);
        } else {
          std::fill_n(out, shape_.input, T{0});
        }
      }
    }
  }

  static std::uint64_t sequence_seed(const ForwardOptions<T>& options) noexcept {
    return options.sequence_seed != 0 ? options.sequence_seed : options.dropout_seed;
  }

  /// Masks that do not depend on outputs of other layers.
  void fill_masks(const ForwardOptions<T>& options, Workspace& ws, Member member) const noexcept {
    const std::int64_t rows = ws.layout.rows();
    for (std::int64_t slot = 0; slot < shape_.slots(); ++slot) {
      const Pass& p = ws.passes[static_cast<std::size_t>(slot)];
      const auto fill = [&](MaskUse use, double probability, T dropped, T kept, std::int64_t count, std::int64_t width,
                            Rows<const T> mask) {
        if (mask.data == nullptr) return;
        const std::uint64_t seed = use == MaskUse::fed ? sequence_seed(options) : options.dropout_seed;
        fill_mask(mask_stream(seed, use, slot), probability, dropped, kept, count, width,
                  Rows<T>{const_cast<T*>(mask.data), mask.stride}, member);
      };
      const auto inverse = [](double probability) { return static_cast<T>(1.0 / (1.0 - probability)); };
      fill(MaskUse::keep, config_.recurrent_dropout, T{0}, inverse(config_.recurrent_dropout), rows, shape_.hidden,
           p.keep);
      fill(MaskUse::hold_h, config_.zoneout_hidden, T{1}, T{0}, rows, shape_.output, p.hold_h);
      fill(MaskUse::hold_state, config_.zoneout_cell, T{1}, T{0}, rows, shape_.hidden, p.hold_state);
      fill(MaskUse::fed, config_.variational_dropout, T{0}, inverse(config_.variational_dropout), ws.layout.sequences(),
           shape_.output, p.fed_mask);
      if (p.fed_mask.data == nullptr) continue;
      // Shared out as fill_mask() does, so that each thread finds the masks it has just filled.
      const Member::Range range = member.share(ws.layout.sequences());
      for (std::int64_t n = range.begin; n < range.end; ++n) {
        T* const to = const_cast<T*>(p.fed0[n]);
        for (std::int64_t k = 0; k < p.fed0.stride; ++k) to[k] = p.h0[n][k] * p.fed_mask[n][k];
      }
    }
  }

  /// A layer's input under dropout (per step) and variational dropout (per sequence). apply: multiplies the input too,
  /// which is there already; without, only the factors are made.
  void mask_input(const ForwardOptions<T>& options, std::int64_t layer, Workspace& ws, Member member,
                  bool apply = true) const noexcept {
    const auto l = static_cast<std::size_t>(layer);
    const Rows<T>& mask = ws.mask[l];
    const Rows<const T> from = layer == 0 ? ws.x : ws.out[l - 1].read();
    const std::int64_t groups = layer == 0 ? 1 : shape_.directions;
    const std::int64_t count = layer == 0 ? shape_.input : shape_.output;
    const std::int64_t distance = layer == 0 ? shape_.input : padded<T>(shape_.output);
    const double dropout = layer == 0 ? 0.0 : config_.dropout;
    const double variational = config_.variational_dropout;
    const std::uint64_t step_stream = mask_stream(options.dropout_seed, MaskUse::dropout, layer - 1);
    const std::uint64_t sequence_stream = mask_stream(sequence_seed(options), MaskUse::input, layer);
    const auto keep = static_cast<T>(1.0 / (1.0 - dropout));
    const auto keep_sequence = static_cast<T>(1.0 / (1.0 - variational));
    const BatchLayout& layout = ws.layout;
    const Member::Range range = member.share(layout.sequences());
    for (std::int64_t n = range.begin; n < range.end; ++n) {
      T* const shared = variational > 0 ? ws.sequence_mask[l][n] : nullptr;
      for (std::int64_t group = 0; group < groups && shared != nullptr; ++group) {
        T* const at = shared + group * distance;
        random_factors(sequence_stream, variational, T{0}, keep_sequence, n, groups, group, count, at);
        std::fill(at + count, at + distance, T{0});
      }
      for (std::int64_t t = 0; t < layout.length(n); ++t) {
        const std::int64_t row = layout.row(t, n);
        T* const factors = mask[row];
        for (std::int64_t group = 0; group < groups; ++group) {
          T* const at = factors + group * distance;
          if (dropout > 0) {
            random_factors(step_stream, dropout, T{0}, keep, row, groups, group, count, at);
          } else {
            std::fill_n(at, count, T{1});
          }
          std::fill(at + count, at + distance, T{0});
        }
        for (std::int64_t k = 0; k < mask.stride; ++k) {
          if (shared != nullptr) factors[k] *= shared[k];
          if (apply) ws.masked[l][row][k] = from[row][k] * factors[k];
        }
      }
    }
  }

  /// Gradients of one layer's weights, in its three parts.
  void layer_gradients(std::int64_t layer, const BackwardOptions<T>& options,
                       const std::array<PreviousRows<T>, 2>& previous, T* scratch, Crew& crew, Workspace& ws,
                       Member member) const noexcept {
    const auto slot_of = [&](int direction) { return static_cast<std::size_t>(layer * shape_.directions + direction); };
    if (shape_.cell.normalised) {
      for (int d = 0; d < shape_.directions; ++d) {
        LayerGradients<T>::gains(ws.passes[slot_of(d)], slots_[slot_of(d)], options.gradient, scratch, member);
      }
      crew.team.wait(member.size);
      for (int d = 0; d < shape_.directions; ++d) LayerGradients<T>::through_norm(ws.passes[slot_of(d)], member);
      crew.team.wait(member.size);
    }
    for (int d = 0; d < shape_.directions; ++d) {
      const Pass& pass = ws.passes[slot_of(d)];
      LayerGradients<T>::weights(pass, layer, slots_[slot_of(d)], previous[static_cast<std::size_t>(d)],
                                 options.gradient, pass.back.room, scratch, member);
    }
    if (!shape_.cell.expands()) return;
    crew.team.wait(member.size);
    if (member.id != 0) return;
    for (int d = 0; d < shape_.directions; ++d) {
      Expansion<T>::reduce(shape_, layer, slots_[slot_of(d)], ws.passes[slot_of(d)].back.room, options.gradient);
    }
  }

  /// Gradient of a layer's input: of x, or of the outputs of the layer below, dropout undone.
  void input_gradient(std::int64_t layer, Rows<T> to, Workspace& ws, Member member) const noexcept {
    for (int direction = 0; direction < shape_.directions; ++direction) {
      LayerGradients<T>::input(ws.pass(shape_, layer, direction), direction == 0 ? Start::zero : Start::sum,
                               padded<T>(shape_.output), to, member);
    }
    const Rows<T>& mask = ws.mask[static_cast<std::size_t>(layer)];
    if (mask.data == nullptr) return;
    const Member::Range range = member.share(ws.layout.rows(), 12);
    for (std::int64_t row = range.begin; row < range.end; ++row) {
      for (std::int64_t k = 0; k < mask.stride; ++k) to[row][k] *= mask[row][k];
    }
  }

  /// Gradients that expanded weights will be added to.
  void clear_reduced(T* gradient) const noexcept {
    for (const TensorInfo& tensor : tensors_) std::fill_n(gradient + tensor.offset, tensor.count(), T{0});
  }

  void scatter_state(void* const* states, std::size_t index, std::int64_t slot, std::int64_t n, const T* from,
                     const BatchLayout& layout) const noexcept {
    const std::int64_t width = shape_.state_width(index);
    T* to = static_cast<T*>(states[index]) + (slot * layout.sequences() + layout.original(n)) * width;
    const std::int64_t every = index == 0 ? 1 : shape_.hidden / width;  // units of a block hold the same
    for (std::int64_t k = 0; k < width; ++k) to[k] = from[k * every];
  }

  /// Rows of `segments` column groups of `count` columns each, `distance` apart, to the caller's sequences.
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
    scatter_rows(y, ws.out.back().read(), shape_.output, shape_.directions, padded<T>(shape_.output), ws.layout,
                 member);
  }

  void scatter_final(const ForwardOptions<T>& options, Workspace& ws, Member member) const noexcept {
    const Member::Range range = member.share(ws.layout.sequences());
    for (std::int64_t slot = 0; slot < shape_.slots(); ++slot) {
      const Pass& p = ws.passes[static_cast<std::size_t>(slot)];
      for (std::int64_t n = range.begin; n < range.end; ++n) {
        const std::int64_t row = final_row(ws.layout, p.reverse, n);
        scatter_state(options.final_state, 0, slot, n, p.out[row], ws.layout);
        for (std::size_t s = 0; s < shape_.cell.states; ++s) {
          scatter_state(options.final_state, s + 1, slot, n, p.keeps_states ? p.record[s][row] : p.state[s][n],
                        ws.layout);
        }
      }
    }
  }

  /// What came through the mask of h joins the rest.
  void finish_initial(Workspace& ws) const noexcept {
    for (const Pass& p : ws.passes) {
      if (p.fed_mask.data == nullptr) continue;
      for (std::int64_t n = 0; n < ws.layout.sequences(); ++n) {
        for (std::int64_t k = 0; k < p.dh.stride; ++k) p.dh[n][k] += p.fed_mask[n][k] * p.dh_fed[n][k];
      }
    }
  }

  void scatter_initial(void* const* d_initial, Workspace& ws) const noexcept {
    for (std::int64_t slot = 0; slot < shape_.slots(); ++slot) {
      const Pass& p = ws.passes[static_cast<std::size_t>(slot)];
      for (std::int64_t n = 0; n < ws.layout.sequences(); ++n) {
        scatter_state(d_initial, 0, slot, n, p.dh[n], ws.layout);
        for (std::size_t s = 0; s < shape_.cell.states; ++s) {
          scatter_state(d_initial, s + 1, slot, n, p.d_state[s][n], ws.layout);
        }
      }
    }
  }

  /// Learned initial states: the sum over the sequences that started from them.
  void learned_gradient(T* gradient, Workspace& ws) const noexcept {
    for (std::int64_t slot = 0; slot < shape_.slots(); ++slot) {
      const auto index = static_cast<std::size_t>(slot);
      const Pass& p = ws.passes[index];
      for (std::size_t s = 0; s <= shape_.cell.states; ++s) {
        const std::int64_t width = shape_.state_width(s);
        const std::int64_t every = s == 0 ? 1 : shape_.hidden / width;
        T* const to = gradient + slots_[index].initial[s];
        std::fill_n(to, width, T{0});
        if (!ws.zero_state) continue;
        const Rows<T>& from = s == 0 ? p.dh : p.d_state[s - 1];
        for (std::int64_t n = 0; n < ws.layout.sequences(); ++n) {
          for (std::int64_t k = 0; k < width; ++k) to[k] += from[n][k * every];
        }
      }
    }
  }

  RecurrentConfig config_;
  StackShape shape_;
  CellKernels<T> kernels_;
  std::vector<SlotTensors> slots_;
  std::vector<TensorInfo> tensors_;
  std::unique_ptr<BlockStack<T>> blocks_;  ///< where layers are blocks
};

LSTMCORE_END_NAMESPACE
