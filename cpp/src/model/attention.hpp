// Additive attention over time.
//
//   u_t = tanh(W h_t + b)    s_t = v · u_t    p = softmax(s) over the steps of the sequence    z = Σ_t p_t h_t
//
// The score is that of Bahdanau, Cho & Bengio (2015, appendix A.1.2) with the learned vector v in place of a decoder's
// state, as in Yang et al. (2016, eq. 5–7, with bias) and Lin et al. (2017, eq. 5–6, one row of attention, no bias).
//
// Tensors: pool_W [A, D·P], pool_b [A], pool_v [A].
#pragma once

#include "model/running_softmax.hpp"
#include "sequence/batch.hpp"

#include <vector>

LSTMCORE_BEGIN_NAMESPACE

/// Sequences of a thread, so that threads have about equal numbers of steps.
inline Member::Range share_sequences(const BatchLayout& layout, Member member) noexcept {
  return {layout.boundary(member.id, member.size), layout.boundary(member.id + 1, member.size)};
}

/// Rows of a thread in units of a register tile.
inline Member::Range share_rows(const BatchLayout& layout, Member member) noexcept {
  return member.share(layout.rows(), 12);
}

template <class T>
class AttentionPooling {
 public:
  /// Offsets in the parameter buffer.
  struct Tensors {
    std::int64_t W = -1, b = -1, v = -1;
  };

  /// What forward leaves for backward, and scratch.
  struct Memory {
    std::vector<T> hidden;    ///< u [rows, A]; in backward ds_t·u_t
    std::vector<T> d_hidden;  ///< gradient of W h + b
    std::vector<T> weight;    ///< [rows]: scores, then p
    std::vector<T> back, scratch;
  };

  AttentionPooling(std::int64_t size, std::int64_t groups, std::int64_t width, const Tensors& tensors) noexcept
      : scorer_(size, groups, width), tensors_(tensors) {}

  std::int64_t packed_size() const noexcept { return scorer_.packed_size() + ap(); }

  void pack(const T* parameters, T* packed) const noexcept {
    scorer_.pack(parameters + tensors_.W, parameters + tensors_.b, packed);
    T* const v = packed + scorer_.packed_size();
    std::fill_n(v, ap(), T{0});
    std::copy_n(parameters + tensors_.v, scorer_.outputs(), v);
  }

  void forward(const BatchLayout& layout, Rows<const T> out, const T* packed, Rows<T> pooled, Memory& memory,
               bool record, int n_threads) const {
    memory.hidden.resize(static_cast<std::size_t>(layout.rows() * ap()));
    memory.weight.resize(static_cast<std::size_t>(layout.rows()));
    const Rows<T> hidden{memory.hidden.data(), ap()};
    T* const weight = memory.weight.data();
    SpinBarrier team;
    parallel(n_threads, [&](Member member) {
      const Member::Range rows = share_rows(layout, member);
      if (rows.begin < rows.end)
        score(packed, rows.end - rows.begin, out.from(rows.begin), hidden.from(rows.begin), weight + rows.begin);
      team.wait(member.size);
      const Member::Range range = share_sequences(layout, member);
      for (std::int64_t n = range.begin; n < range.end; ++n) {
        RunningSoftmax<T> softmax;
        T* const sum = pooled[n];
        std::fill_n(sum, width(), T{0});
        for (std::int64_t t = 0; t < layout.length(n); ++t) {
          const std::int64_t row = layout.row(t, n);
          softmax.add(weight[row], width(), out[row], sum);
        }
        softmax.finish(width(), sum, sum);
        if (!record) continue;
        for (std::int64_t t = 0; t < layout.length(n); ++t) {
          T& w = weight[layout.row(t, n)];
          w = softmax.weight(w);
        }
      }
    });
  }

  /// Gradients of the tensors, and all that backward() below needs.
  ///
  ///   ds_t = p_t·(g·h_t − g·z)    dv = Σ ds_t u_t    da_t = ds_t·v ⊙ (1 − u_t²)    db = Σ da_t    dW = Σ da_t h_tᵀ
  void prepare_backward(const T* parameters, const BatchLayout& layout, Rows<const T> out, Rows<const T> pooled,
                        Rows<const T> d_pooled, T* gradient, Memory& memory, int n_threads) const {
    memory.d_hidden.resize(memory.hidden.size());
    memory.back.resize(static_cast<std::size_t>(scorer_.back_size()));
    const std::int64_t scratch_size = std::max(scorer_.scratch(), ap());
    memory.scratch.resize(static_cast<std::size_t>(scratch_size * n_threads));
    const Rows<T> hidden{memory.hidden.data(), ap()}, d_hidden{memory.d_hidden.data(), ap()};
    const T* const v = parameters + tensors_.v;
    const std::int64_t size = scorer_.outputs();
    SpinBarrier team;
    parallel(n_threads, [&](Member member) {
      scorer_.pack_back(parameters + tensors_.W, memory.back.data(), member);
      const Member::Range range = share_sequences(layout, member);
      for (std::int64_t n = range.begin; n < range.end; ++n) {
        const T mean = product(d_pooled[n], pooled[n]);
        for (std::int64_t t = 0; t < layout.length(n); ++t) {
          const std::int64_t row = layout.row(t, n);
          const T slope = memory.weight[static_cast<std::size_t>(row)] * (product(d_pooled[n], out[row]) - mean);
          T* const u = hidden[row];
          T* const d = d_hidden[row];
          for (std::int64_t a = 0; a < size; ++a) {
            d[a] = slope * v[a] * math::tanh_derivative(u[a]);
            u[a] *= slope;
          }
          std::fill(d + size, d + ap(), T{0});
        }
      }
      team.wait(member.size);
      T* const scratch = memory.scratch.data() + member.id * scratch_size;
      scorer_.weight_gradient(layout.rows(), d_hidden.read(), out, gradient + tensors_.W, gradient + tensors_.b,
                              scratch, member);
      const Member::Range units = member.share(size, kLanes<T>);
      std::fill(scratch + units.begin, scratch + units.end, T{0});
      for (std::int64_t row = 0; row < layout.rows(); ++row) {
        for (std::int64_t a = units.begin; a < units.end; ++a) scratch[a] += hidden[row][a];
      }
      std::copy(scratch + units.begin, scratch + units.end, gradient + tensors_.v + units.begin);
    });
  }

  /// dh_t = p_t·g + Wᵀ da_t: this member's rows.
  void backward(const BatchLayout& layout, Rows<const T> d_pooled, const Memory& memory, Rows<T> d_out,
                Member member) const noexcept {
    const Member::Range range = share_rows(layout, member);
    for (std::int64_t t = 0; t < layout.steps(); ++t) {
      const std::int64_t first = layout.offset(t);
      const std::int64_t last = std::min(first + layout.active(t), range.end);
      for (std::int64_t row = std::max(first, range.begin); row < last; ++row) {
        const T weight = memory.weight[static_cast<std::size_t>(row)];
        const T* const from = d_pooled[row - first];
        for (std::int64_t i = 0; i < width(); ++i) d_out[row][i] = weight * from[i];
      }
    }
    scorer_.input_gradient(Start::sum, memory.back.data(), range.begin, range.end, {memory.d_hidden.data(), ap()},
                           d_out);
  }

  // --- streaming: the weighted sum so far [D·P padded], the largest score, the sum of weights ------------------------

  std::int64_t carried() const noexcept { return width() + 2; }

  void start(T* state) const noexcept { store_softmax(RunningSoftmax<T>{}, std::fill_n(state, width(), T{0})); }

  /// scratch: A elements, padded.
  void add(const T* packed, const T* h, T* state, T* scratch) const noexcept {
    T* const at = state + width();
    RunningSoftmax<T> softmax{at[0], at[1]};
    T s{0};
    score(packed, 1, {h, width()}, {scratch, ap()}, &s);
    softmax.add(s, width(), h, state);
    store_softmax(softmax, at);
  }

  void finish(const T* state, T* pooled) const noexcept {
    const T* const at = state + width();
    RunningSoftmax<T>{at[0], at[1]}.finish(width(), state, pooled);
  }

  std::int64_t width() const noexcept { return scorer_.input_stride(); }
  /// Elements of a row of u.
  std::int64_t ap() const noexcept { return scorer_.stride(); }

 private:
  static void store_softmax(const RunningSoftmax<T>& softmax, T* at) noexcept {
    at[0] = softmax.maximum;
    at[1] = softmax.total;
  }

  /// u and s of `count` rows.
  void score(const T* packed, std::int64_t count, Rows<const T> h, Rows<T> hidden, T* scores) const noexcept {
    scorer_.forward(packed, count, h, hidden);
    const T* const v = packed + scorer_.packed_size();
    for (std::int64_t row = 0; row < count; ++row) {
      T* const u = hidden[row];
      for (std::int64_t a = 0; a < ap(); a += kLanes<T>) store(u + a, math::tanh(load(u + a)));
      scores[row] = dot(ap(), u, v);
    }
  }

  /// a · b without the padding, which need not be zero in the outputs of a layer.
  T product(const T* a, const T* b) const noexcept {
    T total{0};
    for (std::int64_t group = 0; group < scorer_.groups(); ++group) {
      const std::int64_t at = group * padded<T>(scorer_.width());
      total += dot(scorer_.width(), a + at, b + at);
    }
    return total;
  }

  Dense<T> scorer_;
  Tensors tensors_;
};

LSTMCORE_END_NAMESPACE
