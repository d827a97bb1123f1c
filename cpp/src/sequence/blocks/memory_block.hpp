// The mLSTM block of xLSTM (Beck et al. 2024, appendix), on twice the width of the residual stream u:
//
//   x, z = halves of W_up LN(u)       y = swish(conv(x))       q, k = W_q y, W_k y       v = W_v x     (head by head)
//   a_i, a_f = W_if [q; k; v] + b_if  h̃ = the mLSTM's C q / max(|nᵀq|, exp(−m))
//   u + W_down ((LN_heads(h̃) + skip ⊙ y) ⊙ swish(z))
//
// The authors' code has q, k and v in blocks of 4 units; here they are as wide as a head.
#pragma once

#include "sequence/blocks/causal_conv.hpp"
#include "sequence/blocks/head_memories.hpp"
#include "sequence/blocks/residual.hpp"

LSTMCORE_BEGIN_NAMESPACE

template <class T>
class MemoryBlock final : public Block<T> {
 public:
  MemoryBlock(const StackShape& shape, const BlockSizes& sizes, const BlockTensors& at)
      : hidden_(sizes.hidden),
        inner_(sizes.inner()),
        heads_(sizes.heads),
        d_(inner_ / heads_),
        at_(at),
        conv_state_(shape.cell.state("conv")),
        residual_(sizes, at),
        half_(inner_, 1, hidden_),
        conv_(inner_),
        head_(d_, 1, d_),
        gates_(2 * heads_, 3, inner_),
        memories_(inner_, heads_, shape.cell.chunk, shape.cell.exponential_forget, shape.cell.state("C"),
                  shape.cell.state("n"), shape.cell.state("m")),
        norm_(inner_, heads_),
        down_(hidden_, 1, inner_) {
    std::int64_t offset = 0;
    const auto place = [&offset](std::int64_t size) {
      const std::int64_t at_offset = offset;
      offset += size;
      return at_offset;
    };
    packed_.residual = place(residual_.packed_size());
    packed_.up = place(2 * half_.packed_size());
    packed_.conv = place(conv_.packed_size());
    packed_.heads = place(3 * heads_ * head_.packed_size());
    packed_.gates = place(gates_.packed_size());
    packed_.norm = place(norm_.packed_size());
    packed_.skip = place(norm_.stride());
    packed_.down = place(down_.packed_size());
    packed_size_ = offset;
  }

  std::int64_t packed_size() const noexcept override { return packed_size_; }
  void pack(const T* parameters, T* packed, Member member) const noexcept override {
    residual_.pack(parameters, packed + packed_.residual, member);
    for (std::int64_t part = 0; part < 2; ++part) {
      half_.pack(parameters + at_.W_up + part * inner_ * hidden_, nullptr,
                 packed + packed_.up + part * half_.packed_size(), member);
    }
    down_.pack(parameters + at_.W_down, nullptr, packed + packed_.down, member);
    if (member.id != 0) return;
    conv_.pack(parameters + at_.conv, parameters + at_.conv_b, packed + packed_.conv);
    for (std::int64_t i = 0; i < 3 * heads_; ++i)
      head_.pack(head_weights(parameters, i), nullptr, packed_head(packed, i));
    gates_.pack(parameters + at_.W_if, parameters + at_.b_if, packed + packed_.gates);
    norm_.pack(parameters + at_.norm_h, packed + packed_.norm);
    norm_.pack(parameters + at_.skip, packed + packed_.skip);
  }

  std::int64_t scratch_size() const noexcept override {
    return std::max({residual_.scratch_size(), half_.scratch(), gates_.scratch(), down_.scratch(), conv_.packed_size(),
                     norm_.stride()});
  }
  std::int64_t state_used(std::size_t s) const noexcept override {
    return s == conv_state_ ? conv_.state_size() : s == 0 ? 0 : memories_.state_used(s);
  }
  double flops_per_row() const noexcept override {
    const auto h = static_cast<double>(hidden_);
    const auto inner = static_cast<double>(inner_);
    return residual_.flops_per_row() + 6.0 * h * inner + 6.0 * inner * static_cast<double>(d_) +
           memories_.flops_per_row();
  }

  std::unique_ptr<BlockMemory> make_memory() const override { return std::make_unique<Memory>(); }

  void prepare(const BlockPass<T>& pass, int n_threads, Arena& arena, BlockMemory& memory) const override {
    auto& m = static_cast<Memory&>(memory);
    const std::int64_t rows = pass.rows();
    residual_.prepare(pass, arena, m.residual);
    m.x = take_rows<T>(arena, rows, norm_.stride());
    m.z = take_rows<T>(arena, rows, norm_.stride());
    conv_.prepare(pass, norm_.stride(), arena, m.conv);
    memories_.prepare(pass, n_threads, arena, m.heads);
    norm_.prepare(rows, arena, m.norm);
    m.normed = take_rows<T>(arena, rows, norm_.stride());
    m.gated = take_rows<T>(arena, rows, norm_.stride());
  }

  void prepare_backward(const BlockPass<T>& pass, int n_threads, Arena& arena, BlockMemory& memory) const override {
    auto& m = static_cast<Memory&>(memory);
    const std::int64_t rows = pass.rows();
    residual_.prepare_backward(pass, arena, m.residual);
    conv_.prepare_backward(pass, arena, m.conv);
    memories_.prepare_backward(pass, n_threads, arena, m.heads);
    for (Rows<T>* to : {&m.d_branch, &m.d_normed}) *to = take_rows<T>(arena, rows, residual_.stride());
    for (Rows<T>* to : {&m.d_gated, &m.dx, &m.dy, &m.dz}) *to = take_rows<T>(arena, rows, norm_.stride());
    m.back_up = arena.take<T>(2 * half_.back_size());
    m.back_heads = arena.take<T>(3 * heads_ * head_.back_size());
    m.back_gates = arena.take<T>(gates_.back_size());
    m.back_down = arena.take<T>(down_.back_size());
  }

  void forward(const BlockPass<T>& pass, BlockMemory& memory, const Group& group) const noexcept override {
    auto& m = static_cast<Memory&>(memory);
    const T* const packed = pass.packed;
    if (gives_up(group)) return;
    const Member::Range rows = group.member.share(pass.rows(), 12);
    const std::int64_t count = rows.end - rows.begin;
    residual_.enter(pass, packed + packed_.residual, m.residual, rows);
    const Rows<const T> normed = m.residual.normed.from(rows.begin).read();
    half_.forward(packed + packed_.up, count, normed, m.x.from(rows.begin));
    half_.forward(packed + packed_.up + half_.packed_size(), count, normed, m.z.from(rows.begin));
    conv_.start(pass, conv_state_, m.conv, group.member);
    memories_.clear_padding(m.heads, rows);
    group.wait();
    conv_.forward(pass, packed + packed_.conv, m.x.read(), m.conv, group.member);
    group.wait();
    conv_.finish(pass, conv_state_, m.x.read(), m.conv, group.member);
    for (std::int64_t i = 0; i < 3 * heads_; ++i) {  // what a head writes too much is overwritten by the next
      head_.forward(packed_head(packed, i), count, head_input(m, i).from(rows.begin).read(),
                    head_columns(m.heads.qkv, i).from(rows.begin));
    }
    clear_head_padding(m.heads.qkv, rows);
    gates_.forward(packed + packed_.gates, count, m.heads.qkv.from(rows.begin).read(), m.heads.gates.from(rows.begin));
    group.wait();
    memories_.forward(pass, m.heads, group.member);
    group.wait();
    const T* const skip = packed + packed_.skip;
    for (std::int64_t row = rows.begin; row < rows.end; ++row) {
      norm_.forward(packed + packed_.norm, row, m.heads.h[row], m.norm, m.normed[row]);
      for (std::int64_t j = 0; j < padded<T>(inner_); j += kLanes<T>) {
        const Pack<T> sum = load(m.normed[row] + j) + load(skip + j) * load(m.conv.y[row] + j);
        store(m.gated[row] + j, sum * swish(load(m.z[row] + j)));
      }
    }
    const Rows<T> sum = residual_.sum(pass, m.residual);
    down_.forward(packed + packed_.down, count, m.gated.from(rows.begin).read(), sum.from(rows.begin));
    for_packs<T>(rows, padded<T>(hidden_), [&](std::int64_t row, std::int64_t j) {
      Pack<T> branch = load(sum[row] + j);
      if (pass.mask[0].data != nullptr) branch *= load(pass.mask[0][row] + j);
      store(sum[row] + j, load(m.residual.u[row] + j) + branch);
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
    pack_back(pass, m, member);
    residual_.leave_backward(pass, packed + packed_.residual, m.residual, rows);
    for_packs<T>(rows, padded<T>(hidden_), [&](std::int64_t row, std::int64_t j) {
      const Pack<T> d = load(m.residual.du[row] + j);
      store(m.d_branch[row] + j, pass.mask[0].data == nullptr ? d : d * load(pass.mask[0][row] + j));
    });
    memories_.clear_gradient_padding(m.heads, rows);
    group.wait();
    down_.input_gradient(Start::zero, m.back_down, rows.begin, rows.end, m.d_branch.read(), m.d_gated);
    const T* const skip = packed + packed_.skip;
    for (std::int64_t row = rows.begin; row < rows.end; ++row) {
      for (std::int64_t j = 0; j < padded<T>(inner_); j += kLanes<T>) {
        const Pack<T> z = load(m.z[row] + j);
        const Pack<T> d = load(m.d_gated[row] + j);
        const Pack<T> sum = load(m.normed[row] + j) + load(skip + j) * load(m.conv.y[row] + j);
        store(m.dz[row] + j, d * sum * swish_derivative(z));
        store(m.d_gated[row] + j, d * swish(z));  // from here on the gradient of LN(h̃) + skip ⊙ y
      }
      std::fill(m.d_gated[row] + inner_, m.d_gated[row] + m.d_gated.stride, T{0});
      norm_.backward(packed + packed_.norm, row, m.norm, m.d_gated[row], m.heads.dh[row]);
    }
    group.wait();
    T* const scratch = pass.scratch_of(member);
    down_.weight_gradient(pass.rows(), m.d_branch.read(), m.gated.read(), pass.gradient + at_.W_down, nullptr, scratch,
                          member);
    norm_.gain_gradient(pass.rows(), m.d_gated.read(), m.norm, pass.gradient + at_.norm_h, scratch, member);
    RowNorm<T>::sum_products(pass.rows(), m.d_gated.read(), m.conv.y.read(), inner_, pass.gradient + at_.skip, scratch,
                             member);
    memories_.backward(pass, m.heads, member);
    group.wait();
    gates_.input_gradient(Start::sum, m.back_gates, rows.begin, rows.end, m.heads.d_gates.read(), m.heads.d_qkv);
    for (std::int64_t i = 0; i < 3 * heads_; ++i) {
      const bool of_k = i >= heads_ && i < 2 * heads_;  // added to what came through q; v has an input of its own
      head_.input_gradient(of_k ? Start::sum : Start::zero, m.back_heads + i * head_.back_size(), rows.begin, rows.end,
                           head_columns(m.heads.d_qkv, i).read(),
                           (i < 2 * heads_ ? m.dy : m.dx).columns(i % heads_ * d_));
    }
    for (std::int64_t row = rows.begin; row < rows.end; ++row) {
      std::fill(m.dx[row] + inner_, m.dx[row] + padded<T>(inner_), T{0});
      std::fill(m.dy[row] + inner_, m.dy[row] + padded<T>(inner_), T{0});
      for (std::int64_t j = 0; j < padded<T>(inner_); j += kLanes<T>) {
        store(m.dy[row] + j, load(m.dy[row] + j) + load(skip + j) * load(m.d_gated[row] + j));
      }
    }
    conv_.swish_backward(m.conv, m.dy.read(), rows);
    group.wait();
    gates_.weight_gradient(pass.rows(), m.heads.d_gates.read(), m.heads.qkv.read(), pass.gradient + at_.W_if,
                           pass.gradient + at_.b_if, scratch, member);
    for (std::int64_t i = 0; i < 3 * heads_; ++i) {
      head_.weight_gradient(pass.rows(), head_columns(m.heads.d_qkv, i).read(), head_input(m, i).read(),
                            const_cast<T*>(head_weights(pass.gradient, i)), nullptr, scratch, member);
    }
    conv_.weight_gradient(pass, m.x.read(), m.conv, pass.gradient + at_.conv, pass.gradient + at_.conv_b, scratch,
                          member);
    conv_.backward(pass, packed + packed_.conv, conv_state_, m.conv, Start::sum, m.dx, member);
    group.wait();
    half_.input_gradient(Start::zero, m.back_up, rows.begin, rows.end, m.dx.read(), m.d_normed);
    half_.input_gradient(Start::sum, m.back_up + half_.back_size(), rows.begin, rows.end, m.dz.read(), m.d_normed);
    half_.weight_gradient(pass.rows(), m.dx.read(), m.residual.normed.read(), pass.gradient + at_.W_up, nullptr,
                          scratch, member);
    half_.weight_gradient(pass.rows(), m.dz.read(), m.residual.normed.read(),
                          pass.gradient + at_.W_up + inner_ * hidden_, nullptr, scratch, member);
    group.wait();
    residual_.gain_gradient(pass, m.residual, m.d_normed.read(), member);
    group.wait();
    residual_.enter_backward(packed + packed_.residual, m.residual, m.d_normed, rows);
    residual_.input_gradient(pass, m.residual, rows);
    group.wait();
    residual_.weight_gradients(pass, m.residual, member);
    group.wait();
  }

 private:
  struct Memory final : BlockMemory {
    typename Residual<T>::Memory residual;
    Rows<T> x, z;  ///< the two halves
    typename CausalConv<T>::Memory conv;
    typename HeadMemories<T>::Memory heads;
    typename RowNorm<T>::Memory norm;
    Rows<T> normed, gated;
    Rows<T> d_branch, d_normed, d_gated, dx, dy, dz;
    T *back_up = nullptr, *back_heads = nullptr, *back_gates = nullptr, *back_down = nullptr;
  };

  // Projection i of 3·heads: of q for all heads, then k, then v.
  const T* head_weights(const T* parameters, std::int64_t i) const noexcept {
    const std::int64_t kind = i / heads_;
    return parameters + (kind == 0 ? at_.W_q : kind == 1 ? at_.W_k : at_.W_v) + i % heads_ * d_ * d_;
  }
  const T* packed_head(const T* packed, std::int64_t i) const noexcept {
    return packed + packed_.heads + i * head_.packed_size();
  }
  T* packed_head(T* packed, std::int64_t i) const noexcept { return packed + packed_.heads + i * head_.packed_size(); }
  Rows<T> head_input(const Memory& m, std::int64_t i) const noexcept {
    return (i < 2 * heads_ ? m.conv.y : m.x).columns(i % heads_ * d_);
  }
  Rows<T> head_columns(Rows<T> qkv, std::int64_t i) const noexcept {
    return qkv.columns(i / heads_ * memories_.group() + i % heads_ * d_);
  }
  void clear_head_padding(Rows<T> qkv, Member::Range rows) const noexcept {
    for (std::int64_t row = rows.begin; row < rows.end; ++row) {
      for (std::int64_t g = 0; g < 3; ++g) {
        std::fill_n(qkv[row] + g * memories_.group() + inner_, memories_.group() - inner_, T{0});
      }
    }
  }

  void pack_back(const BlockPass<T>& pass, const Memory& m, Member member) const noexcept {
    residual_.pack_back(pass, m.residual, member);
    const T* const p = pass.parameters;
    for (std::int64_t part = 0; part < 2; ++part) {
      half_.pack_back(p + at_.W_up + part * inner_ * hidden_, m.back_up + part * half_.back_size(), member);
    }
    for (std::int64_t i = 0; i < 3 * heads_; ++i) {
      head_.pack_back(head_weights(p, i), m.back_heads + i * head_.back_size(), member);
    }
    gates_.pack_back(p + at_.W_if, m.back_gates, member);
    down_.pack_back(p + at_.W_down, m.back_down, member);
  }

  std::int64_t hidden_, inner_, heads_, d_;
  BlockTensors at_;
  std::size_t conv_state_;
  Residual<T> residual_;
  Dense<T> half_;
  CausalConv<T> conv_;
  Dense<T> head_, gates_;
  HeadMemories<T> memories_;
  RowNorm<T> norm_;
  Dense<T> down_;
  struct {
    std::int64_t residual, up, conv, heads, gates, norm, skip, down;
  } packed_{};
  std::int64_t packed_size_ = 0;
};

LSTMCORE_END_NAMESPACE
