// The matrix memory of one head over one sequence (cells/mlstm.hpp): many steps at once, forward and, below, backward.
//
// A sequence is cut into chunks of at most S steps. Between chunks the state (C, n, m) is carried, inside a chunk all
// pairs of steps meet in a matrix: with b_t = Σ_{l ≤ t} log f_l since the chunk began, c_t = a_i,t − b_t and the
// running maximum M_t = max(m₋, c_1 … c_t), so that m_t = b_t + M_t (Beck et al. 2024, appendix; Beck et al. 2025),
//
//   P_tj = exp(c_j − M_t) q_t·k_j  (j ≤ t)      g_t = exp(m₋ − M_t)
//   r_t  = Σ_j P_tj v_j + g_t C₋ q_t            s_t = Σ_j P_tj + g_t n₋·q_t         h_t = r_t / max(|s_t|, exp(−m_t))
//   C    = exp(m₋ − M_S) C₋ + Σ_j w_j v_j k_jᵀ  w_j = exp(c_j − M_S)                n likewise with k_j
//
// S = 1 is the step form and S ≥ T the parallel form: one function, one code, equal to rounding. All exponents are
// ≤ 0. Sums over log f are kept in double, and c − M is taken from a float and its remainder, so that gates of ±30 over
// thousands of steps lose nothing in float32.
//
// Backward. h does not depend on m (it scales r, s and exp(−m) alike), so that m counts as a constant. C and k enter
// together with exp(a_i): ∂a_i,j = k_j·∂k_j. log f_l scales what steps from l on read of steps before l: the sum of
// P ⊙ ∂P over t ≥ l and j < l, the same of what is read from C₋ and of what reaches the state after the chunk. (The
// published kernels sum q·∂q − k·∂k from the end of the sequence instead, which is the same on paper and cancels: over
// 300 steps nothing is left of a small gradient.) A gradient of the final m itself follows the maximum to its origin.
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
class MatrixMemory {
 public:
  static constexpr int W = kLanes<T>;

  MatrixMemory(std::int64_t width, std::int64_t chunk, bool exponential_forget) noexcept
      : d_(width), dp_(padded<T>(width)), chunk_(chunk), exponential_(exponential_forget) {}

  std::int64_t width() const noexcept { return d_; }
  std::int64_t stride() const noexcept { return dp_; }
  /// Elements of C and of n.
  std::int64_t state_size() const noexcept { return (d_ + 1) * dp_; }

  /// End of the chunk that begins at t. window: chunks do not cross its multiples; 0: none.
  std::int64_t chunk_end(std::int64_t t, std::int64_t steps, std::int64_t window) const noexcept {
    std::int64_t end = std::min(steps, t + chunk_);
    if (window > 0) end = std::min(end, (t / window + 1) * window);
    return end;
  }
  /// At most so many chunks.
  std::int64_t chunks(std::int64_t steps, std::int64_t window) const noexcept {
    std::int64_t count = 0;
    for (std::int64_t t = 0; t < steps; t = chunk_end(t, steps, window)) ++count;
    return count;
  }

  /// Working memory of one thread.
  struct Scratch {
    std::int64_t rows = 0;  ///< longest chunk
    T *q = nullptr, *k = nullptr, *v = nullptr, *r = nullptr;
    T *P = nullptr, *D = nullptr, *dP = nullptr;  ///< [rows, padded rows]; the last two for backward
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
      s.D = take(rows * rp);
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

  /// state: before the first step in, after the last out (unless state_wanted is false). starts: where not null,
  /// the state before chunk i is kept there, C and n at i·every·state_size(), m at starts_m[i·every].
  void forward(const MemoryRun<T>& run, const MemoryState<T>& state, bool state_wanted, std::int64_t window, T* starts,
               double* starts_m, std::int64_t every, Scratch& s) const noexcept {
    bool empty = run.starts_empty;
    const std::int64_t steps = run.steps();
    std::int64_t index = 0;
    for (std::int64_t t = 0; t < steps; ++index) {
      const std::int64_t end = chunk_end(t, steps, window);
      if (starts != nullptr) keep(state, starts + index * every * state_size(), starts_m[index * every]);
      const bool last = end == steps && !state_wanted;
      if (end - t == 1) {
        step(run, state, t, run.h.data != nullptr, s);
      } else {
        load_chunk(run, t, end - t, s);
        exponents(run, t, end - t, *state.m, s);
        if (run.h.data != nullptr) read(run, t, end - t, state, empty, s);
        if (!last) write(end - t, state, empty, s);
      }
      empty = false;
      t = end;
    }
  }

  /// From ∂h (and ∂ of the final state in d_state; its m in dm) to ∂q … ∂f and ∂ of the initial state, in their places.
  /// end: the state after the last step. has_d_state: whether d_state is anything but zero.
  void backward(const MemoryRun<T>& run, const MemoryGradients<T>& to, const T* starts, const double* starts_m,
                std::int64_t every, const MemoryState<T>& end_state, MemoryState<T> d_state, bool has_d_state,
                std::int64_t window, Scratch& s) const noexcept {
    const std::int64_t steps = run.steps();
    std::int64_t index = chunks(steps, window);
    // What reaches the final m beyond its effect on the scale of C and n.
    double dm = has_d_state ? *d_state.m - product(d_state.C, end_state.C) : 0.0;
    bool carried = has_d_state;
    std::int64_t end = steps;
    while (index-- > 0) {
      const std::int64_t t = chunk_begin(end, window);
      const T* const before = starts + index * every * state_size();
      const bool empty = index == 0 && run.starts_empty && !run.wants_initial;
      load_chunk(run, t, end - t, s);
      exponents(run, t, end - t, starts_m[index * every], s);
      chunk_backward(run, to, t, end - t, before, empty, d_state, carried, dm, s);
      carried = true;
      end = t;
      if (window > 0 && t > 0 && t % window == 0) {
        std::fill_n(d_state.C, state_size(), T{0});
        carried = false;
        dm = 0;
      }
    }
    *d_state.m = dm + product(d_state.C, starts);
  }

 private:
  /// Begin of the chunk that ends at `end`.
  std::int64_t chunk_begin(std::int64_t end, std::int64_t window) const noexcept {
    const std::int64_t base = window > 0 ? (end - 1) / window * window : 0;
    return base + (end - 1 - base) / chunk_ * chunk_;
  }

  void keep(const MemoryState<T>& state, T* to, double& m) const noexcept {
    std::copy_n(state.C, d_ * dp_, to);
    std::copy_n(state.n, dp_, to + d_ * dp_);
    m = *state.m;
  }

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

  /// h of a chunk.
  void read(const MemoryRun<T>& run, std::int64_t t, std::int64_t count, const MemoryState<T>& state, bool empty,
            Scratch& s) const noexcept {
    const std::int64_t stride = pair_stride(s);
    const Panels<T> keys{s.panels_a, d_, blocks_of<T>(count)};
    pack_panels_transposed(keys, count, s.k, dp_);
    pairs(count, s.q, keys, s.P, stride);
    for (std::int64_t r = 0; r < count; ++r) {
      T* const row = s.P + r * stride;
      const std::int64_t band_end = std::min(count, r / kBand * kBand + kBand);
      Pack<T> sum{};
      std::int64_t j = 0;
      for (; j <= r; j += W) {
        const Pack<T> value = load(row + j) * decay(s, r, j);
        store(row + j, value);
        sum += value;
      }
      for (; j < band_end; j += W) store(row + j, Pack<T>{});
      s.sums[r] = sum_of(sum);
    }
    const Panels<T> values{s.panels_b, count, dp_ / W};
    pack_panels(values, dp_, s.v, dp_);
    if (!empty) {
      const Panels<T> memory{s.panels_a, d_, dp_ / W};
      pack_panels(memory, dp_, state.C, dp_);
      for (std::int64_t r = 0; r < count; ++r) {
        T* const row = s.q + r * dp_;
        Pack<T> sum{};
        for (std::int64_t j = 0; j < dp_; j += W) {
          const Pack<T> scaled = load(row + j) * s.g[r];
          store(row + j, scaled);
          sum += scaled * load(state.n + j);
        }
        s.sums[r] += sum_of(sum);
      }
      rows_times_panels<T>(Start::zero, count, s.q, dp_, memory, 0, memory.count(), s.r, dp_);
    }
    combine(empty ? Start::zero : Start::sum, count, s.P, stride, values, s.r);
    for (std::int64_t r = 0; r < count; ++r) finish(run, run.row(t + r), s.sums[r], s.low[r], s.r + r * dp_);
  }

  /// h = r / max(|s|, exp(−m)).
  void finish(const MemoryRun<T>& run, std::int64_t row, T sum, T low, const T* r) const noexcept {
    T active;
    const T inverse = T{1} / Mlstm::normaliser(sum, low, active);
    if (run.inverse.data != nullptr) {
      *run.inverse[row] = inverse;
      *run.active[row] = active;
    }
    T* const h = run.h[row];
    for (std::int64_t j = 0; j < d_; ++j) h[j] = r[j] * inverse;
  }

  /// The state after a chunk. s.k is scaled on the way.
  void write(std::int64_t count, const MemoryState<T>& state, bool empty, Scratch& s) const noexcept {
    const T keep = empty ? T{0} : s.g[count - 1];  // exp(m₋ − M_S)
    for (std::int64_t j = 0; j < state_size(); j += W) store(state.C + j, load(state.C + j) * keep);
    for (std::int64_t r = 0; r < count; ++r) {
      T* const row = s.k + r * dp_;
      for (std::int64_t j = 0; j < dp_; j += W) {
        const Pack<T> scaled = load(row + j) * s.w[r];
        store(row + j, scaled);
        store(state.n + j, load(state.n + j) + scaled);
      }
    }
    const Panels<T> values{s.panels_b, count, dp_ / W};
    pack_panels(values, dp_, s.v, dp_);
    transposed_product<T>(Start::sum, 0, d_, s.k, dp_, values, state.C, dp_, s.left);
    *state.m = s.m;
  }

  /// One step, in one pass over C.
  void step(const MemoryRun<T>& run, const MemoryState<T>& state, std::int64_t t, bool reads,
            Scratch& s) const noexcept {
    load_chunk(run, t, 1, s);
    exponents(run, t, 1, *state.m, s);
    const T keep = s.g[0];
    const T add = s.w[0];
    std::fill_n(s.r, dp_, T{0});
    Pack<T> sum{};
    for (std::int64_t j = 0; j < dp_; j += W) {
      const Pack<T> n = load(state.n + j) * keep + load(s.k + j) * add;
      store(state.n + j, n);
      sum += n * load(s.q + j);
    }
    for (std::int64_t k = 0; k < d_; ++k) {
      T* const row = state.C + k * dp_;
      const T key = s.k[k] * add;
      const T query = s.q[k];
      for (std::int64_t j = 0; j < dp_; j += W) {
        const Pack<T> value = load(row + j) * keep + key * load(s.v + j);
        store(row + j, value);
        store(s.r + j, load(s.r + j) + query * value);
      }
    }
    *state.m = s.m;
    if (!reads) return;
    finish(run, run.row(t), sum_of(sum), s.low[0], s.r);
  }

  void chunk_backward(const MemoryRun<T>& run, const MemoryGradients<T>& to, std::int64_t t, std::int64_t count,
                      const T* before, bool empty, const MemoryState<T>& d_state, bool carried, double& dm,
                      Scratch& s) const noexcept {
    const std::int64_t stride = pair_stride(s);
    const T* const n_before = before + d_ * dp_;
    const T keep = s.g[count - 1];
    // Of log f of every step of the chunk: through C₋ to the state after it.
    const double through = carried && !empty ? static_cast<double>(keep) * product(d_state.C, before) : 0.0;

    // r becomes ∂r, sums ∂s.
    for (std::int64_t r = 0; r < count; ++r) {
      const std::int64_t row = run.row(t + r);
      const T* const dh = to.dh[row];
      const T* const h = run.h[row];
      const T inverse = *run.inverse[row];
      const T active = *run.active[row];
      T* const dr = s.r + r * dp_;
      T h_dh{0};
      for (std::int64_t j = 0; j < d_; ++j) {
        h_dh += h[j] * dh[j];
        dr[j] = dh[j] * inverse;
      }
      std::fill(dr + d_, dr + dp_, T{0});
      s.sums[r] = Mlstm::normaliser_backward(h_dh, inverse, active);
    }
    const Panels<T> across{s.panels_a, d_, blocks_of<T>(count)};
    pack_panels_transposed(across, count, s.k, dp_);
    pairs(count, s.q, across, s.P, stride);
    pack_panels_transposed(across, count, s.v, dp_);
    pairs(count, s.r, across, s.dP, stride);
    // P = exp(c − M) q·k, and ∂(q·k) in place of ∂P. From the last row up, so that columns of P ⊙ ∂P add up from below.
    T* const columns = s.reads;
    std::fill_n(columns, padded<T>(count), T{0});
    for (std::int64_t r = count - 1; r >= 0; --r) {
      T* const p = s.P + r * stride;
      T* const d = s.dP + r * stride;
      const std::int64_t band_end = std::min(count, r / kBand * kBand + kBand);
      std::int64_t j = 0;
      Pack<T> across_r{};
      for (; j <= r; j += W) {
        const Pack<T> factor = decay(s, r, j);
        const Pack<T> weight = load(p + j) * factor;
        const Pack<T> d_weight = load(d + j) + s.sums[r];
        store(p + j, weight);
        store(d + j, d_weight * factor);
        const Pack<T> column = load(columns + j) + weight * d_weight;
        store(columns + j, column);
        across_r += j + W <= r ? column : (load(s.lanes) < broadcast(static_cast<T>(r - j)) ? column : Pack<T>{});
      }
      s.across[r] = sum_of(across_r);
      for (; j < band_end; j += W) {
        store(p + j, Pack<T>{});
        store(d + j, Pack<T>{});
      }
    }
    const Panels<T> down{s.panels_b, count, dp_ / W};
    // ∂q = ∂(q·k) k + g (∂r Cᵀ + ∂s n)
    pack_panels(down, dp_, s.k, dp_);
    combine(Start::zero, count, s.dP, stride, down, s.dq);
    // ∂k = ∂(q·k)ᵀ q;  ∂v = Pᵀ ∂r
    pack_panels(down, dp_, s.q, dp_);
    below(count, s.dP, stride, down, s.dk, s.left);
    pack_panels(down, dp_, s.r, dp_);
    below(count, s.P, stride, down, s.dv, s.left);
    std::fill_n(s.reads, count, T{0});
    std::fill_n(s.writes, count, T{0});
    if (!empty) {
      // s.r is scaled by g from here on, s.sums too.
      for (std::int64_t r = 0; r < count; ++r) {
        T* const dr = s.r + r * dp_;
        s.sums[r] *= s.g[r];
        for (std::int64_t j = 0; j < dp_; j += W) {
          store(dr + j, load(dr + j) * s.g[r]);
          store(s.part + r * dp_ + j, s.sums[r] * load(n_before + j));
        }
      }
      const Panels<T> memory{s.panels_a, d_, dp_ / W};  // of Cᵀ: depth v, columns k
      pack_panels_transposed(memory, d_, before, dp_);
      rows_times_panels<T>(Start::sum, count, s.r, dp_, memory, 0, memory.count(), s.part, dp_);
      add_part(count, s.q, s.part, s.dq, s.reads);
    }
    if (carried) {
      // ∂k += w (∂C v + ∂n), ∂v += w ∂Cᵀ k, where ∂C is stored as C is: [k, v].
      for (std::int64_t r = 0; r < count; ++r) {
        for (std::int64_t j = 0; j < dp_; j += W) {
          store(s.part + r * dp_ + j, s.w[r] * load(d_state.n + j));
          store(s.v + r * dp_ + j, load(s.v + r * dp_ + j) * s.w[r]);
        }
      }
      const Panels<T> memory{s.panels_a, d_, dp_ / W};
      pack_panels_transposed(memory, d_, d_state.C, dp_);
      rows_times_panels<T>(Start::sum, count, s.v, dp_, memory, 0, memory.count(), s.part, dp_);
      add_part(count, s.k, s.part, s.dk, s.writes);
      pack_panels(memory, dp_, d_state.C, dp_);
      // The rows of ∂v take w k; k itself is still needed for ∂a_i.
      T* const weighted = s.v;
      for (std::int64_t r = 0; r < count; ++r) {
        for (std::int64_t j = 0; j < dp_; j += W) {
          store(weighted + r * dp_ + j, load(s.k + r * dp_ + j) * s.w[r]);
        }
      }
      rows_times_panels<T>(Start::sum, count, weighted, dp_, memory, 0, memory.count(), s.dv, dp_);
    }
    gates_backward(run, to, t, count, through, dm, s);
    // ∂ of the state before the chunk.
    for (std::int64_t j = 0; j < state_size(); j += W) {
      store(d_state.C + j, carried ? load(d_state.C + j) * keep : Pack<T>{});
    }
    if (empty) return;
    pack_panels(down, dp_, s.r, dp_);
    transposed_product<T>(Start::sum, 0, d_, s.q, dp_, down, d_state.C, dp_, s.left);
    for (std::int64_t r = 0; r < count; ++r) {
      for (std::int64_t j = 0; j < dp_; j += W) {
        store(d_state.n + j, load(d_state.n + j) + s.sums[r] * load(s.q + r * dp_ + j));
      }
    }
  }

  static T sum_of(Pack<T> pack) noexcept {
    T total{0};
    for (int lane = 0; lane < W; ++lane) total += pack[lane];
    return total;
  }

  /// to += part, and dots = a·part row by row.
  void add_part(std::int64_t count, const T* a, const T* part, T* to, T* dots) const noexcept {
    for (std::int64_t r = 0; r < count; ++r) {
      Pack<T> sum{};
      for (std::int64_t j = r * dp_; j < (r + 1) * dp_; j += W) {
        const Pack<T> value = load(part + j);
        sum += load(a + j) * value;
        store(to + j, load(to + j) + value);
      }
      dots[r] = sum_of(sum);
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

  /// ∂a_i = k·∂k, and ∂a_f from its parts; and ∂q, ∂k, ∂v to where they belong.
  void gates_backward(const MemoryRun<T>& run, const MemoryGradients<T>& to, std::int64_t t, std::int64_t count,
                      double through, double& dm, const Scratch& s) const noexcept {
    constexpr int D = kLanes<double>;
    for (std::int64_t r = 0; r < count; ++r) s.b[r] = static_cast<double>(*run.f[run.row(t + r)]);
    std::fill_n(s.b + count, D, 0.0);
    for (std::int64_t r = 0; r < count; r += D) store(s.a_f + r, Mlstm::forget_slope(exponential_, load(s.b + r)));
    double written = 0;  // by steps before
    for (std::int64_t r = 0; r < count; ++r) {
      const double before = written;
      written += static_cast<double>(s.writes[r]);
      s.c[r] = before;
    }
    double later = through;
    for (std::int64_t r = count - 1; r >= 0; --r) {
      const std::int64_t row = run.row(t + r);
      const T* const k = s.k + r * dp_;
      const T* const dk = s.dk + r * dp_;
      Pack<T> sum{};
      for (std::int64_t j = 0; j < dp_; j += W) sum += load(k + j) * load(dk + j);
      const auto di = static_cast<double>(sum_of(sum));
      later += static_cast<double>(s.reads[r]);
      const double d_log_f = later + s.c[r] + static_cast<double>(s.across[r]);
      // m came through log f of the steps after its origin.
      const bool passes = r > s.m_origin;
      *to.df[row] = static_cast<T>((d_log_f + (passes ? dm : 0.0)) * s.a_f[r]);
      *to.di[row] = static_cast<T>(di + (r == s.m_origin ? dm : 0.0));
      std::copy_n(s.dq + r * dp_, d_, to.dq[row]);
      const T factor = key_scale();
      for (std::int64_t j = 0; j < d_; ++j) to.dk[row][j] = factor * dk[j];
      std::copy_n(s.dv + r * dp_, d_, to.dv[row]);
    }
    if (s.m_origin >= 0) dm = 0;
  }

  std::int64_t d_, dp_, chunk_;
  bool exponential_;
};

LSTMCORE_END_NAMESPACE
