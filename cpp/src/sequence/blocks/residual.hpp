// What both xLSTM blocks have around their core: the input projection where there is one, the pre-norm, the residual
// sum and, in the last block, the norm of the stack's outputs.
#pragma once

#include "sequence/blocks/block.hpp"

LSTMCORE_BEGIN_NAMESPACE

template <class T>
class Residual {
 public:
  Residual(const BlockSizes& sizes, const BlockTensors& at)
      : hidden_(sizes.hidden),
        projects_(sizes.projects),
        normalises_(sizes.last),
        at_(at),
        input_(sizes.hidden, sizes.groups, sizes.input / sizes.groups),
        norm_(sizes.hidden, 1) {}

  struct Memory {
    Rows<T> u, normed;  ///< the residual stream, and what the core reads
    typename RowNorm<T>::Memory norm, norm_out;
    Rows<T> before_norm_out;  ///< the block's output where it is normalised
    Rows<T> du;               ///< gradient of the stream
    T* back = nullptr;
  };

  std::int64_t stride() const noexcept { return norm_.stride(); }
  std::int64_t packed_size() const noexcept { return 2 * norm_.packed_size() + (projects_ ? input_.packed_size() : 0); }
  std::int64_t scratch_size() const noexcept { return std::max(input_.scratch(), stride()); }
  double flops_per_row() const noexcept {
    return projects_ ? 2.0 * static_cast<double>(hidden_) * static_cast<double>(input_.depth()) : 0.0;
  }

  void pack(const T* parameters, T* packed, Member member) const noexcept {
    if (member.id == 0) {
      norm_.pack(parameters + at_.norm, packed);
      if (normalises_) norm_.pack(parameters + at_.norm_out, packed + norm_.packed_size());
    }
    if (projects_) {
      input_.pack(parameters + at_.W_in, parameters + at_.b_in, packed + 2 * norm_.packed_size(), member);
    }
  }

  void prepare(const BlockPass<T>& pass, Arena& arena, Memory& m) const {
    m.u = take_rows<T>(arena, pass.rows(), stride());
    m.normed = take_rows<T>(arena, pass.rows(), stride());
    norm_.prepare(pass.rows(), arena, m.norm);
    if (!normalises_) return;
    norm_.prepare(pass.rows(), arena, m.norm_out);
    m.before_norm_out = take_rows<T>(arena, pass.rows(), stride());
  }
  void prepare_backward(const BlockPass<T>& pass, Arena& arena, Memory& m) const {
    m.du = take_rows<T>(arena, pass.rows(), stride());
    if (projects_ && pass.dx.data != nullptr) m.back = arena.take<T>(input_.back_size());
  }

  /// u and its norm for rows of this member.
  void enter(const BlockPass<T>& pass, const T* packed, const Memory& m, Member::Range rows) const noexcept {
    if (projects_) {
      input_.forward(packed + 2 * norm_.packed_size(), rows.end - rows.begin, pass.x.from(rows.begin),
                     m.u.from(rows.begin));
    }
    for (std::int64_t row = rows.begin; row < rows.end; ++row) {
      if (!projects_) std::copy_n(pass.x[row], padded<T>(hidden_), m.u[row]);
      norm_.forward(packed, row, m.u[row], m.norm, m.normed[row]);
    }
  }

  /// Where the last residual sum goes.
  Rows<T> sum(const BlockPass<T>& pass, const Memory& m) const noexcept {
    return normalises_ ? m.before_norm_out : pass.out;
  }
  /// After the sum is there.
  void leave(const BlockPass<T>& pass, const T* packed, const Memory& m, Member::Range rows) const noexcept {
    for (std::int64_t row = rows.begin; normalises_ && row < rows.end; ++row) {
      norm_.forward(packed + norm_.packed_size(), row, m.before_norm_out[row], m.norm_out, pass.out[row]);
    }
  }

  /// du = gradient of the last sum.
  void leave_backward(const BlockPass<T>& pass, const T* packed, const Memory& m, Member::Range rows) const noexcept {
    for (std::int64_t row = rows.begin; row < rows.end; ++row) {
      if (normalises_) {
        norm_.backward(packed + norm_.packed_size(), row, m.norm_out, pass.d_out[row], m.du[row]);
      } else {
        std::copy_n(pass.d_out[row], padded<T>(hidden_), m.du[row]);
      }
    }
  }
  /// du += what came through the norm: d_normed, which is used up.
  void enter_backward(const T* packed, const Memory& m, Rows<T> d_normed, Member::Range rows) const noexcept {
    for (std::int64_t row = rows.begin; row < rows.end; ++row) {
      T* const d = d_normed[row];
      norm_.backward(packed, row, m.norm, d, d);
      for (std::int64_t j = 0; j < padded<T>(hidden_); j += kLanes<T>) {
        store(m.du[row] + j, load(m.du[row] + j) + load(d + j));
      }
    }
  }
  void pack_back(const BlockPass<T>& pass, const Memory& m, Member member) const noexcept {
    if (m.back != nullptr && projects_ && pass.dx.data != nullptr) {
      input_.pack_back(pass.parameters + at_.W_in, m.back, member);
    }
  }
  /// dx of this member's rows, from du.
  void input_gradient(const BlockPass<T>& pass, const Memory& m, Member::Range rows) const noexcept {
    if (pass.dx.data == nullptr) return;
    if (projects_) {
      input_.input_gradient(pass.dx_start, m.back, rows.begin, rows.end, m.du.read(), pass.dx);
      return;
    }
    for_packs<T>(rows, padded<T>(hidden_), [&](std::int64_t row, std::int64_t j) {
      const Pack<T> d = load(m.du[row] + j);
      store(pass.dx[row] + j, pass.dx_start == Start::zero ? d : d + load(pass.dx[row] + j));
    });
  }
  /// Gradients of W_in, b_in and of norm_out's gain; all of du must be there.
  void weight_gradients(const BlockPass<T>& pass, const Memory& m, Member member) const noexcept {
    T* const scratch = pass.scratch_of(member);
    if (projects_) {
      input_.weight_gradient(pass.rows(), m.du.read(), pass.x, pass.gradient + at_.W_in, pass.gradient + at_.b_in,
                             scratch, member);
    }
    if (normalises_) {
      norm_.gain_gradient(pass.rows(), pass.d_out, m.norm_out, pass.gradient + at_.norm_out, scratch, member);
    }
  }
  /// Gradient of the pre-norm's gain: d_normed must not have been used up yet.
  void gain_gradient(const BlockPass<T>& pass, const Memory& m, Rows<const T> d_normed, Member member) const noexcept {
    norm_.gain_gradient(pass.rows(), d_normed, m.norm, pass.gradient + at_.norm, pass.scratch_of(member), member);
  }

 private:
  std::int64_t hidden_;
  bool projects_, normalises_;
  BlockTensors at_;
  Dense<T> input_;
  RowNorm<T> norm_;
};

LSTMCORE_END_NAMESPACE
