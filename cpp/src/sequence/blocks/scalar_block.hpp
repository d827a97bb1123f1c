// The sLSTM block of xLSTM (Beck et al. 2024, appendix), on the residual stream u:
//
//   x = LN(u)      y = swish(conv(x))      i, f read y; z, o read x      h of the sLSTM (cells/slstm.hpp), in heads
//   u' = u + LN_heads(h)                   u' + W_mlp_down (gelu(a) ⊙ b),  a, b = halves of W_mlp_up LN(u')
//
// The recurrence is the driver of all other cells (sequence/direction.hpp), given its pre-activations.
#pragma once

#include "sequence/blocks/causal_conv.hpp"
#include "sequence/blocks/residual.hpp"
#include "sequence/gradients.hpp"

LSTMCORE_BEGIN_NAMESPACE

template <class T>
class ScalarBlock final : public Block<T> {
 public:
  ScalarBlock(const StackShape& shape, const BlockSizes& sizes, const BlockTensors& at)
      : hidden_(sizes.hidden),
        at_(at),
        conv_state_(shape.cell.state("conv")),
        states_{shape.cell.state("c"), shape.cell.state("n"), shape.cell.state("m")},
        cell_(inner_config(shape, sizes)),
        shape_(cell_),
        kernels_(kernels_of<T>(cell_)),
        residual_(sizes, at),
        conv_(sizes.hidden),
        norm_(sizes.hidden, sizes.heads),
        norm_mlp_(sizes.hidden, 1),
        up_(sizes.mlp(), 1, sizes.hidden),
        down_(sizes.hidden, 1, sizes.mlp()) {
    slot_.W = at.W;
    slot_.R = at.R;
    slot_.b = at.b;
    std::int64_t offset = 0;
    const auto place = [&offset](std::int64_t size) {
      const std::int64_t at_offset = offset;
      offset += size;
      return at_offset;
    };
    packed_.residual = place(residual_.packed_size());
    packed_.conv = place(conv_.packed_size());
    packed_.W = place(gate_width() * hidden_);
    packed_.R = place(gate_width() * hidden_);
    packed_.b = place(gate_width());
    packed_.norm = place(norm_.packed_size());
    packed_.norm_mlp = place(norm_mlp_.packed_size());
    packed_.up = place(2 * up_.packed_size());
    packed_.down = place(down_.packed_size());
    packed_.room = place(Expansion<T>::size(shape_, 0));
    packed_size_ = offset;
  }

  std::int64_t packed_size() const noexcept override { return packed_size_; }
  void pack(const T* parameters, T* packed, Member member) const noexcept override {
    residual_.pack(parameters, packed + packed_.residual, member);
    down_.pack(parameters + at_.W_mlp_down, nullptr, packed + packed_.down, member);
    for (std::int64_t part = 0; part < 2; ++part) {
      up_.pack(parameters + at_.W_mlp_up + part * up_.outputs() * hidden_, nullptr,
               packed + packed_.up + part * up_.packed_size(), member);
    }
    if (member.id != 0) return;
    conv_.pack(parameters + at_.conv, parameters + at_.conv_b, packed + packed_.conv);
    norm_.pack(parameters + at_.norm_h, packed + packed_.norm);
    norm_mlp_.pack(parameters + at_.norm_mlp, packed + packed_.norm_mlp);
    pack_gate_vector<T>(parameters + at_.b, kGates, hidden_, packed + packed_.b);
    Expansion<T>::expand(shape_, 0, slot_, parameters, packed + packed_.room, Member{});
    const auto given = Expansion<T>::template view<const T>(shape_, 0, slot_, parameters, packed + packed_.room);
    for (std::int64_t b = 0; b < blocks_of<T>(hidden_); ++b) {
      // i and f read y, z and o read x: two panels of two gates.
      for (std::int64_t pair = 0; pair < 2; ++pair) {
        pack_gate_panel<T>(2, 3U, parameters + at_.W + pair * 2 * hidden_ * hidden_, hidden_, hidden_, hidden_, b,
                           packed + packed_.W + (2 * b + pair) * hidden_ * 2 * kLanes<T>);
      }
      const HeadRange columns = columns_of_block<T>(shape_, b);
      pack_gate_panel<T>(kGates, 15U, given.R + columns.first, hidden_, hidden_, columns.last - columns.first, b,
                         packed + packed_.R + b * hidden_ * kGates * kLanes<T>);
    }
  }

  std::int64_t scratch_size() const noexcept override {
    return std::max({residual_.scratch_size(), up_.scratch(), down_.scratch(), conv_.packed_size(), norm_.stride(),
                     LayerGradients<T>::scratch(shape_)});
  }
  std::int64_t state_used(std::size_t s) const noexcept override {
    return s == conv_state_ ? conv_.state_size() : is_state(s) ? hidden_ : 0;
  }
  double flops_per_row() const noexcept override {
    const auto h = static_cast<double>(hidden_);
    return residual_.flops_per_row() + 8.0 * h * (h + h / static_cast<double>(shape_.cell.heads)) +
           6.0 * h * static_cast<double>(up_.outputs());
  }

  std::unique_ptr<BlockMemory> make_memory() const override { return std::make_unique<Memory>(); }

  void prepare(const BlockPass<T>& pass, int, Arena& arena, BlockMemory& memory) const override {
    auto& m = static_cast<Memory&>(memory);
    const std::int64_t rows = pass.rows();
    const std::int64_t n = pass.sequences();
    const std::int64_t hp = padded<T>(hidden_);
    residual_.prepare(pass, arena, m.residual);
    conv_.prepare(pass, norm_.stride(), arena, m.conv);
    norm_.prepare(rows, arena, m.norm);
    norm_mlp_.prepare(rows, arena, m.norm_mlp);
    for (Rows<T>* to : {&m.h, &m.sum, &m.mlp_in}) *to = take_rows<T>(arena, rows, norm_.stride());
    for (Rows<T>* to : {&m.a, &m.b, &m.gated}) *to = take_rows<T>(arena, rows, padded<T>(up_.outputs()));
    DirectionPass<T>& p = m.pass;
    p = DirectionPass<T>{};
    p.shape = &shape_;
    p.kernels = &kernels_;
    p.layout = pass.layout;
    p.reverse = pass.reverse;
    p.recording = p.keeps_states = true;  // the pre-activations of all rows are made before the recurrence
    p.weights.recurrent = const_cast<T*>(pass.packed) + packed_.R;
    p.gates = take_rows<T>(arena, rows, gate_width());
    p.out = m.h;
    const Rows<T> h0 = take_rows<T>(arena, n, hp);
    gather(pass, pass.initial, 0, h0);
    p.h0 = h0.read();
    for (std::size_t s = 0; s < states_.size(); ++s) {
      p.state[s] = take_rows<T>(arena, n, hp);
      gather(pass, pass.initial, states_[s], p.state[s]);
      p.record[s] = take_rows<T>(arena, rows, hp);
    }
  }

  void prepare_backward(const BlockPass<T>& pass, int, Arena& arena, BlockMemory& memory) const override {
    auto& m = static_cast<Memory&>(memory);
    const std::int64_t rows = pass.rows();
    const std::int64_t n = pass.sequences();
    const std::int64_t hp = padded<T>(hidden_);
    residual_.prepare_backward(pass, arena, m.residual);
    conv_.prepare_backward(pass, arena, m.conv);
    for (Rows<T>* to : {&m.d_mlp, &m.dh, &m.dx, &m.dy}) *to = take_rows<T>(arena, rows, norm_.stride());
    for (Rows<T>* to : {&m.da, &m.db}) *to = take_rows<T>(arena, rows, padded<T>(up_.outputs()));
    m.back_up = arena.take<T>(2 * up_.back_size());
    m.back_down = arena.take<T>(down_.back_size());
    for (Panels<T>& panels : m.back_W) {
      const std::int64_t blocks = blocks_of<T>(hidden_);
      panels = {arena.take<T>(Panels<T>::size(gate_width(), blocks)), gate_width(), blocks};
    }
    DirectionPass<T>& p = m.pass;
    p.back = BackPacking<T>::allocate(shape_, 0, false, arena);
    p.bptt_steps = pass.bptt_steps;
    p.d_out = m.dh.read();
    p.dh = take_rows<T>(arena, n, hp);
    gather(pass, pass.d_final, 0, p.dh);
    for (std::size_t s = 0; s < states_.size(); ++s) {
      p.d_state[s] = take_rows<T>(arena, n, hp);
      gather(pass, pass.d_final, states_[s], p.d_state[s]);
    }
    m.previous = LayerGradients<T>::allocate(shape_, rows, arena);
  }

  void forward(const BlockPass<T>& pass, BlockMemory& memory, const Group& group) const noexcept override {
    auto& m = static_cast<Memory&>(memory);
    const T* const packed = pass.packed;
    if (gives_up(group)) return;
    const Member::Range rows = group.member.share(pass.rows(), 12);
    const std::int64_t count = rows.end - rows.begin;
    residual_.enter(pass, packed + packed_.residual, m.residual, rows);
    conv_.start(pass, conv_state_, m.conv, group.member);
    group.wait();
    const Rows<const T> x = m.residual.normed.read();
    conv_.forward(pass, packed + packed_.conv, x, m.conv, group.member);
    group.wait();
    conv_.finish(pass, conv_state_, x, m.conv, group.member);
    for (std::int64_t row = rows.begin; row < rows.end; row += kRowBlock) {
      const std::int64_t n = std::min(kRowBlock, rows.end - row);
      for (std::int64_t b = 0; b < blocks_of<T>(hidden_); ++b) {
        for (std::int64_t pair = 0; pair < 2; ++pair) {
          const std::int64_t column = (2 * b + pair) * 2 * kLanes<T>;
          const Rows<const T> in = pair == 0 ? m.conv.y.read() : x;
          panel_product<T>(2, Start::bias, n, hidden_, in[row], in.stride, packed + packed_.W + column * hidden_,
                           m.pass.gates[row] + column, m.pass.gates.stride, packed + packed_.b + column);
        }
      }
    }
    group.wait();
    Direction<T>::forward(m.pass, group);
    if (group.cancel != nullptr && *group.stop) return;
    if (pass.final_state != nullptr) {
      const Member::Range range = group.member.share(pass.sequences());
      for (std::int64_t n = range.begin; n < range.end; ++n) {
        const std::int64_t last = pass.row(pass.layout->length(n) - 1, n);
        std::copy_n(m.h[last], hidden_, pass.state(pass.final_state, 0, n));
        for (std::size_t s = 0; s < states_.size(); ++s) {
          std::copy_n(m.pass.record[s][last], hidden_, pass.state(pass.final_state, states_[s], n));
        }
      }
    }
    const Rows<T> out = residual_.sum(pass, m.residual);
    for (std::int64_t row = rows.begin; row < rows.end; ++row) {
      std::fill(m.h[row] + padded<T>(hidden_), m.h[row] + m.h.stride, T{0});
      T* const sum = m.sum[row];
      norm_.forward(packed + packed_.norm, row, m.h[row], m.norm, sum);
      for (std::int64_t j = 0; j < padded<T>(hidden_); j += kLanes<T>) {
        Pack<T> branch = load(sum + j);
        if (pass.mask[0].data != nullptr) branch *= load(pass.mask[0][row] + j);
        store(sum + j, load(m.residual.u[row] + j) + branch);
      }
      norm_mlp_.forward(packed + packed_.norm_mlp, row, sum, m.norm_mlp, m.mlp_in[row]);
    }
    const Rows<const T> in = m.mlp_in.from(rows.begin).read();
    up_.forward(packed + packed_.up, count, in, m.a.from(rows.begin));
    up_.forward(packed + packed_.up + up_.packed_size(), count, in, m.b.from(rows.begin));
    for_packs<T>(rows, padded<T>(up_.outputs()), [&](std::int64_t row, std::int64_t j) {
      store(m.gated[row] + j, gelu(load(m.a[row] + j)) * load(m.b[row] + j));
    });
    down_.forward(packed + packed_.down, count, m.gated.from(rows.begin).read(), out.from(rows.begin));
    for_packs<T>(rows, padded<T>(hidden_), [&](std::int64_t row, std::int64_t j) {
      Pack<T> branch = load(out[row] + j);
      if (pass.mask[1].data != nullptr) branch *= load(pass.mask[1][row] + j);
      store(out[row] + j, load(m.sum[row] + j) + branch);
    });
    residual_.leave(pass, packed + packed_.residual, m.residual, rows);
    group.wait();
  }

  void backward(const BlockPass<T>& pass, BlockMemory& memory, const Group& group) const noexcept override {
    auto& m = static_cast<Memory&>(memory);
    const T* const packed = pass.packed;
    const Member member = group.member;
    if (gives_up(group)) return;
    const Member::Range rows = member.share(pass.rows(), 12);
    const std::int64_t hp = padded<T>(hidden_);
    if (member.id == 0) Expansion<T>::expand(shape_, 0, slot_, pass.parameters, m.pass.back.room, Member{});
    group.wait();
    pack_back(pass, m, member);
    residual_.leave_backward(pass, packed + packed_.residual, m.residual, rows);
    const auto masked = [&](std::size_t which, Rows<T> to) {
      for_packs<T>(rows, hp, [&](std::int64_t row, std::int64_t j) {
        const Pack<T> d = load(m.residual.du[row] + j);
        store(to[row] + j, pass.mask[which].data == nullptr ? d : d * load(pass.mask[which][row] + j));
      });
    };
    masked(1, m.dy);  // gradient of the MLP's output
    group.wait();
    down_.input_gradient(Start::zero, m.back_down, rows.begin, rows.end, m.dy.read(), m.da);
    for_packs<T>(rows, padded<T>(up_.outputs()), [&](std::int64_t row, std::int64_t j) {
      const Pack<T> d = load(m.da[row] + j);
      const Pack<T> a = load(m.a[row] + j);
      store(m.db[row] + j, d * gelu(a));
      store(m.da[row] + j, d * load(m.b[row] + j) * gelu_derivative(a));
    });
    up_.input_gradient(Start::zero, m.back_up, rows.begin, rows.end, m.da.read(), m.d_mlp);
    up_.input_gradient(Start::sum, m.back_up + up_.back_size(), rows.begin, rows.end, m.db.read(), m.d_mlp);
    group.wait();
    T* const scratch = pass.scratch_of(member);
    const std::int64_t total = pass.rows();
    down_.weight_gradient(total, m.dy.read(), m.gated.read(), pass.gradient + at_.W_mlp_down, nullptr, scratch, member);
    up_.weight_gradient(total, m.da.read(), m.mlp_in.read(), pass.gradient + at_.W_mlp_up, nullptr, scratch, member);
    up_.weight_gradient(total, m.db.read(), m.mlp_in.read(), pass.gradient + at_.W_mlp_up + up_.outputs() * hidden_,
                        nullptr, scratch, member);
    norm_mlp_.gain_gradient(total, m.d_mlp.read(), m.norm_mlp, pass.gradient + at_.norm_mlp, scratch, member);
    group.wait();
    for (std::int64_t row = rows.begin; row < rows.end; ++row) {
      T* const d = m.d_mlp[row];
      norm_mlp_.backward(packed + packed_.norm_mlp, row, m.norm_mlp, d, d);
      for (std::int64_t j = 0; j < hp; j += kLanes<T>) {
        store(m.residual.du[row] + j, load(m.residual.du[row] + j) + load(d + j));
      }
    }
    masked(0, m.d_mlp);  // gradient of LN_heads(h)
    for (std::int64_t row = rows.begin; row < rows.end; ++row) {
      std::fill(m.d_mlp[row] + hidden_, m.d_mlp[row] + m.d_mlp.stride, T{0});
      norm_.backward(packed + packed_.norm, row, m.norm, m.d_mlp[row], m.dh[row]);
    }
    group.wait();
    norm_.gain_gradient(total, m.d_mlp.read(), m.norm, pass.gradient + at_.norm_h, scratch, member);
    Direction<T>::backward(m.pass, group);
    if (group.cancel != nullptr && *group.stop) return;
    if (member.id == 0) {
      LayerGradients<T>::find_previous(m.pass, m.previous);
      scatter_initial(pass, m);
      std::fill_n(pass.gradient + at_.R, 4 * hidden_ * (hidden_ / shape_.cell.heads), T{0});
    }
    group.wait();
    recurrent_weights(pass, m, scratch, member);
    const Rows<const T> d_gates = m.pass.gates.read();
    for (std::size_t pair = 0; pair < 2; ++pair) {
      const Panels<T>& panels = m.back_W[pair];
      const Rows<T> to = pair == 0 ? m.dy : m.dx;
      if (rows.begin < rows.end) {
        rows_times_panels<T>(Start::zero, rows.end - rows.begin, d_gates[rows.begin], d_gates.stride, panels, 0,
                             panels.count(), to[rows.begin], to.stride);
      }
    }
    conv_.swish_backward(m.conv, m.dy.read(), rows);
    group.wait();
    if (member.id == 0 && shape_.cell.expands()) {
      Expansion<T>::reduce(shape_, 0, slot_, m.pass.back.room, pass.gradient);
    }
    const Rows<const T> x = m.residual.normed.read();
    conv_.weight_gradient(pass, x, m.conv, pass.gradient + at_.conv, pass.gradient + at_.conv_b, scratch, member);
    conv_.backward(pass, packed + packed_.conv, conv_state_, m.conv, Start::sum, m.dx, member);
    group.wait();
    residual_.gain_gradient(pass, m.residual, m.dx.read(), member);
    group.wait();
    residual_.enter_backward(packed + packed_.residual, m.residual, m.dx, rows);
    residual_.input_gradient(pass, m.residual, rows);
    group.wait();
    residual_.weight_gradients(pass, m.residual, member);
    group.wait();
  }

 private:
  static constexpr int kGates = 4;

  struct Memory final : BlockMemory {
    typename Residual<T>::Memory residual;
    typename CausalConv<T>::Memory conv;
    typename RowNorm<T>::Memory norm, norm_mlp;
    DirectionPass<T> pass;
    Rows<T> h, sum, mlp_in, a, b, gated;
    Rows<T> d_mlp, dh, dx, dy, da, db;
    T *back_up = nullptr, *back_down = nullptr;
    std::array<Panels<T>, 2> back_W{};
    PreviousRows<T> previous;
  };

  static RecurrentConfig inner_config(const StackShape& shape, const BlockSizes& sizes) {
    RecurrentConfig config;
    config.cell = "slstm";
    config.input_size = config.hidden_size = sizes.hidden;
    config.cell_options["heads"] = sizes.heads;
    config.cell_options["forget_activation"] = std::string(shape.cell.exponential_forget ? "exponential" : "sigmoid");
    return config;
  }

  std::int64_t gate_width() const noexcept { return kGates * padded<T>(hidden_); }
  bool is_state(std::size_t s) const noexcept {
    return s == 0 || std::find(states_.begin(), states_.end(), s) != states_.end();
  }

  void gather(const BlockPass<T>& pass, const void* const* states, std::size_t s, Rows<T> to) const noexcept {
    for (std::int64_t n = 0; n < pass.sequences(); ++n) {
      std::fill_n(to[n], to.stride, T{0});
      if (states != nullptr) std::copy_n(pass.state(states, s, n), hidden_, to[n]);
    }
  }
  void scatter_initial(const BlockPass<T>& pass, const Memory& m) const noexcept {
    if (pass.d_initial == nullptr) return;
    for (std::int64_t n = 0; n < pass.sequences(); ++n) {
      std::copy_n(m.pass.dh[n], hidden_, pass.state(pass.d_initial, 0, n));
      for (std::size_t s = 0; s < states_.size(); ++s) {
        std::copy_n(m.pass.d_state[s][n], hidden_, pass.state(pass.d_initial, states_[s], n));
      }
    }
  }

  void pack_back(const BlockPass<T>& pass, Memory& m, Member member) const noexcept {
    const T* const p = pass.parameters;
    residual_.pack_back(pass, m.residual, member);
    down_.pack_back(p + at_.W_mlp_down, m.back_down, member);
    for (std::int64_t part = 0; part < 2; ++part) {
      up_.pack_back(p + at_.W_mlp_up + part * up_.outputs() * hidden_, m.back_up + part * up_.back_size(), member);
    }
    BackPacking<T>::pack(shape_, 0, slot_, p, m.pass.back, member);
    for (std::size_t pair = 0; pair < 2; ++pair) {
      const Panels<T>& panels = m.back_W[pair];
      const Member::Range range = member.share(panels.count());
      for (std::int64_t q = range.begin; q < range.end; ++q) {
        pack_back_panel<T>(kGates, pair == 0 ? 3U : 12U, p + at_.W, hidden_, hidden_, hidden_, panels.column(q),
                           panels.packs(q), 0, blocks_of<T>(hidden_), panels.panel(q));
      }
    }
  }

  /// Gradients of R and b, and of W whose first two gates read y and the others x.
  void recurrent_weights(const BlockPass<T>& pass, const Memory& m, T* scratch, Member member) const noexcept {
    LayerGradients<T>::weights(m.pass, 0, slot_, m.previous, pass.gradient, m.pass.back.room, scratch, member);
    const Member::Range range = member.share(gate_width(), WeightGradient<T>::kTileRows);
    std::array<GradientOperand<T>, 2> operands{};
    for (std::size_t pair = 0; pair < 2; ++pair) {
      operands[pair].rows = pair == 0 ? m.conv.y.read() : m.residual.normed.read();
      operands[pair].columns = hidden_;
      operands[pair].gradient = pass.gradient + at_.W;
      operands[pair].ld_gradient = hidden_;
      operands[pair].gates = pair == 0 ? 3U : 12U;
    }
    WeightGradient<T>::run(pass.rows(), m.pass.gates.read(), kGates, hidden_, range.begin, range.end, operands.data(),
                           2, nullptr, scratch);
  }

  std::int64_t hidden_;
  BlockTensors at_;
  std::size_t conv_state_;
  std::array<std::size_t, 3> states_;  ///< c, n, m
  RecurrentConfig cell_;
  StackShape shape_;  ///< of the sLSTM alone
  CellKernels<T> kernels_;
  SlotTensors slot_;
  Residual<T> residual_;
  CausalConv<T> conv_;
  RowNorm<T> norm_, norm_mlp_;
  Dense<T> up_, down_;
  struct {
    std::int64_t residual, conv, W, R, b, norm, norm_mlp, up, down, room;
  } packed_{};
  std::int64_t packed_size_ = 0;
};

LSTMCORE_END_NAMESPACE
