// One chunk of steps of a matrix memory: its gates as exponents, and the products over all pairs of its steps
// (sequence/matrix_memory.hpp says what they are for).
#pragma once

#include "base/arena.hpp"
#include "cells/mlstm.hpp"
#include "kernels/matrix.hpp"
#include "kernels/pointwise.hpp"
#include "sequence/batch.hpp"

#include <cmath>

LSTMCORE_BEGIN_NAMESPACE

/// (C, n, m) of one head. C: [d, dp], row = component of k, column = component of v.
template <class T>
struct MemoryState {
  T* C = nullptr;
  T* n = nullptr;
  double* m = nullptr;
};

/// One head of one sequence. Matrices are at the head's first column; rows as in sequence/batch.hpp.
template <class T>
struct MemoryRun {
  const BatchLayout* layout = nullptr;
  bool reverse = false;
  std::int64_t sequence = 0;
  Rows<const T> q, k, v;
  Rows<const T> i, f;          ///< pre-activations
  Rows<T> h;                   ///< before the output gate
  Rows<T> inverse, active;     ///< 1/normaliser and the sign of s where it decides; absent when nothing is recorded
  bool starts_empty = true;    ///< the state before the first step is zero
  bool wants_initial = false;  ///< backward: its gradient is asked for

  std::int64_t steps() const noexcept { return layout->length(sequence); }
  std::int64_t row(std::int64_t t) const noexcept { return layout->row(reverse ? steps() - 1 - t : t, sequence); }
};

template <class T>
struct MemoryGradients {
  Rows<const T> dh;
  Rows<T> dq, dk, dv, di, df;
};

template <class T>
class MemoryChunk {
 public:
  static constexpr int W = kLanes<T>;

  MemoryChunk(std::int64_t width, std::int64_t chunk, bool exponential_forget) noexcept
      : d_(width), dp_(padded<T>(width)), chunk_(chunk), exponential_(exponential_forget) {}

  /// Elements of a row of C.
  std::int64_t stride() const noexcept { return dp_; }
  /// Elements of C and of n.
  std::int64_t state_size() const noexcept { return (d_ + 1) * dp_; }

  /// Working memory of one thread.
  struct Scratch {
    std::int64_t rows = 0;  ///< longest chunk
    T *q = nullptr, *k = nullptr, *v = nullptr, *r = nullptr;
    T *P = nullptr, *dP = nullptr;  ///< [rows, padded rows]
    T *dq = nullptr, *dk = nullptr, *dv = nullptr;
    T *panels_a = nullptr, *panels_b = nullptr, *left = nullptr;
    T *state = nullptr, *d_state = nullptr;
    double *b = nullptr, *c = nullptr, *M = nullptr, *a_f = nullptr;
    T *c_high = nullptr, *c_low = nullptr, *g = nullptr, *w = nullptr, *low = nullptr, *sums = nullptr;
    T *across = nullptr, *reads = nullptr, *writes = nullptr;  ///< backward: parts of the gradient of log f
    T* part = nullptr;
    T* lanes = nullptr;          ///< 0, 1, 2 …
    double m = 0;                ///< after the chunk
    std::int64_t m_origin = -1;  ///< step of the chunk whose a_i it came from; −1: from the m before
  };

  Scratch scratch(std::int64_t longest, bool backward, Arena& arena) const {
    Scratch s;
    const std::int64_t rows = s.rows = std::min(chunk_, longest);
    const std::int64_t rp = padded<T>(rows) + W;
    const auto take = [&arena](std::int64_t count) { return arena.take<T>(count); };
    s.q = take(rows * dp_);
    s.k = take(rows * dp_);
    s.v = take(rows * dp_);
    s.r = take(rows * dp_);
    s.P = take(rows * rp);
    const std::int64_t panel = std::max({rows * dp_, d_ * dp_, d_ * rp});
    s.panels_a = take(panel);
    s.panels_b = take(panel);
    s.left = take(left_size<T>(std::max(rows, d_)));
    s.state = take(state_size());
    s.b = arena.take<double>(rp);
    s.c = arena.take<double>(rp);
    s.M = arena.take<double>(rp);
    s.a_f = arena.take<double>(rp + kLanes<double>);
    for (T** p : {&s.c_high, &s.c_low, &s.g, &s.w, &s.low, &s.sums}) *p = take(rp);
    std::fill_n(s.c_high, rp, T{0});
    std::fill_n(s.c_low, rp, T{0});
    s.lanes = take(W);
    for (int lane = 0; lane < W; ++lane) s.lanes[lane] = static_cast<T>(lane);
    if (backward) {
      s.dP = take(rows * rp);
      s.dq = take(rows * dp_);
      s.dk = take(rows * dp_);
      s.dv = take(rows * dp_);
      s.part = take(rows * dp_);
      s.d_state = take(state_size());
      for (T** p : {&s.across, &s.reads, &s.writes}) *p = take(rp);
    }
    return s;
  }

 protected:
  /// ⟨a, b⟩ of two states' C and n. The padding of both is zero.
  double product(const T* a, const T* b) const noexcept {
    double total = 0;
    for (std::int64_t row = 0; row <= d_; ++row) {
      Pack<T> sum{};
      for (std::int64_t j = 0; j < dp_; j += W) sum += load(a + row * dp_ + j) * load(b + row * dp_ + j);
      for (int lane = 0; lane < W; ++lane) total += static_cast<double>(sum[lane]);
    }
    return total;
  }

  void load_rows(const MemoryRun<T>& run, Rows<const T> from, std::int64_t t, std::int64_t count, T factor,
                 T* to) const noexcept {
    for (std::int64_t r = 0; r < count; ++r, to += dp_) {
      const T* row = from[run.row(t + r)];
      for (std::int64_t j = 0; j < d_; ++j) to[j] = factor * row[j];
      std::fill(to + d_, to + dp_, T{0});
    }
  }

  void load_chunk(const MemoryRun<T>& run, std::int64_t t, std::int64_t count, Scratch& s) const noexcept {
    load_rows(run, run.q, t, count, T{1}, s.q);
    load_rows(run, run.k, t, count, key_scale(), s.k);
    load_rows(run, run.v, t, count, T{1}, s.v);
  }
  T key_scale() const noexcept { return static_cast<T>(1.0 / std::sqrt(static_cast<double>(d_))); }

  /// b, c, M of a chunk, and from them c in two parts, g, w and exp(−m). s.m: m after the chunk.
  void exponents(const MemoryRun<T>& run, std::int64_t t, std::int64_t count, double m, Scratch& s) const noexcept {
    constexpr int D = kLanes<double>;
    for (std::int64_t r = 0; r < count; ++r) s.a_f[r] = static_cast<double>(*run.f[run.row(t + r)]);
    std::fill_n(s.a_f + count, D, 0.0);
    for (std::int64_t r = 0; r < count; r += D) store(s.b + r, Mlstm::log_forget(exponential_, load(s.a_f + r)));
    double b = 0;
    double high = m;
    s.m_origin = -1;
    for (std::int64_t r = 0; r < count; ++r) {
      b += s.b[r];
      s.b[r] = b;
      s.c[r] = static_cast<double>(*run.i[run.row(t + r)]) - b;
      if (s.c[r] > high) {
        high = s.c[r];
        s.m_origin = r;
      }
      s.M[r] = high;
    }
    s.m = b + high;
    // exp(−m) above the largest number leaves h = 0, as it is to rounding.
    constexpr double kLargest = sizeof(T) == 4 ? 88.0 : 709.0;
    for (std::int64_t r = 0; r < count; ++r) {
      s.c_high[r] = static_cast<T>(s.c[r]);
      s.c_low[r] = static_cast<T>(s.c[r] - static_cast<double>(s.c_high[r]));
      s.g[r] = static_cast<T>(m - s.M[r]);
      s.w[r] = static_cast<T>(s.c[r] - high);
      s.low[r] = static_cast<T>(std::min(kLargest, -s.b[r] - s.M[r]));
    }
    for (T* values : {s.g, s.w, s.low}) {
      std::fill_n(values + count, W, T{0});
      for (std::int64_t r = 0; r < count; r += W) store(values + r, exp_or_zero(load(values + r)));
    }
  }

  /// exp that reaches 0 where math::exp stops at its lowest.
  static Pack<T> exp_or_zero(Pack<T> x) noexcept {
    const Pack<T> lowest = constant<Pack<T>>(math::ExpConstants<T>::kLowest);
    return x < lowest ? Pack<T>{} : math::exp(x);
  }

  /// exp(c_j − M_t) for row r and columns from j on, zero beyond the diagonal.
  Pack<T> decay(const Scratch& s, std::int64_t r, std::int64_t j) const noexcept {
    const auto high = static_cast<T>(s.M[r]);
    const auto low = static_cast<T>(s.M[r] - static_cast<double>(high));
    Pack<T> value = exp_or_zero((load(s.c_high + j) - high) + (load(s.c_low + j) - low));
    if (j + W <= r + 1) return value;
    return load(s.lanes) <= broadcast(static_cast<T>(r - j)) ? value : Pack<T>{};
  }

  /// Rows of the matrix of pairs that are worked off together, up to their own diagonal.
  static constexpr std::int64_t kBand = 24;

  std::int64_t pair_stride(const Scratch& s) const noexcept { return padded<T>(s.rows) + W; }

  /// to = A · Bᵀ up to the diagonal; panels: of Bᵀ, depth d.
  void pairs(std::int64_t count, const T* a, const Panels<T>& panels, T* to, std::int64_t stride) const noexcept {
    for (std::int64_t r = 0; r < count; r += kBand) {
      const std::int64_t m = std::min(kBand, count - r);
      for (std::int64_t p = 0; p < panels.count() && panels.column(p) < r + m; ++p) {
        panel_product<T>(panels.packs(p), Start::zero, m, d_, a + r * dp_, dp_, panels.panel(p),
                         to + r * stride + panels.column(p), stride);
      }
    }
  }

  /// to (+)= pairs · B; panels: of B, depth = count.
  void combine(Start start, std::int64_t count, const T* pair, std::int64_t stride, const Panels<T>& panels,
               T* to) const noexcept {
    for (std::int64_t r = 0; r < count; r += kBand) {
      const std::int64_t m = std::min(kBand, count - r);
      for (std::int64_t p = 0; p < panels.count(); ++p) {
        panel_product<T>(panels.packs(p), start, m, r + m, pair + r * stride, stride, panels.panel(p),
                         to + r * dp_ + panels.column(p), dp_);
      }
    }
  }

  /// to = pairsᵀ · B, where only rows from a column's own on are not zero.
  void below(std::int64_t count, const T* pair, std::int64_t stride, const Panels<T>& panels, T* to,
             T* left) const noexcept {
    for (std::int64_t column = 0; column < count; column += kBand) {
      const std::int64_t columns = std::min(kBand, count - column);
      transposed_product<T>(Start::zero, column, columns, pair + column, stride, panels, to + column * dp_, dp_, left);
    }
  }

  static T sum_of(Pack<T> pack) noexcept {
    T total{0};
    for (int lane = 0; lane < W; ++lane) total += pack[lane];
    return total;
  }

  std::int64_t d_, dp_, chunk_;
  bool exponential_;
};

LSTMCORE_END_NAMESPACE
