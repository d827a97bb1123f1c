// Hopfield pooling: learned state patterns retrieve from the steps of a sequence.
//
//   k_t = K h_t    x_t = V h_t    per pattern s: q⁰ = Q_s
//   U updates:  p = softmax_t(β q·k_t),  q ← Σ_t p_t k_t      (Ramsauer et al. 2021, eq. 3: the update rule)
//   read-out:   p = softmax_t(β q·k_t),  z_s = Σ_t p_t x_t    (eq. 10 with static queries: the layer HopfieldPooling)
//
// z = [z_0 … z_{S−1}] is the pooled vector. U = 0 is the plain read-out, the default of the authors' layers
// (github.com/ml-jku/hopfield-layers), whose update_steps_max is our U; their threshold that stops earlier is left out,
// because an update less for some sequences of a batch would make a result depend on its neighbours. Left out as well:
// several heads; the layer norms of patterns, which can be switched off there (h is bounded by itself for most cells,
// and layer_norm is an option of the cell); bias of the values and the output projection, which are linear and merge
// into the head that follows; bias of the keys and projection of the learned queries.
//
// Tensors: pool_Q [S, A], pool_K [A, D·P], pool_V [A, D·P].
#pragma once

#include "model/attention.hpp"

LSTMCORE_BEGIN_NAMESPACE

template <class T>
class HopfieldPooling {
 public:
  struct Tensors {
    std::int64_t Q = -1, K = -1, V = -1;
  };

  /// What forward leaves for backward, and scratch.
  struct Memory {
    std::vector<T> keys, values, d_keys, d_values;  ///< [rows, A]
    std::vector<T> queries;                         ///< q of every sequence, pattern and update: [N, S, U + 1, A]
    std::vector<T> weights;                         ///< p likewise, of every step: per sequence [S, U + 1, T_n]
    std::vector<T> d_queries;                       ///< gradient of q⁰ [N, S, A]
    std::vector<T> slopes;                          ///< per sequence [T_n]
    std::vector<std::int64_t> first;                ///< steps of the sequences before n
    std::vector<T> back, scratch;
  };

  HopfieldPooling(std::int64_t size, std::int64_t groups, std::int64_t width, std::int64_t patterns,
                  std::int64_t updates, double beta, const Tensors& tensors) noexcept
      : keys_(size, groups, width),
        patterns_(patterns),
        updates_(updates),
        beta_(static_cast<T>(beta > 0 ? beta : 1.0 / std::sqrt(static_cast<double>(size)))),
        tensors_(tensors) {}

  std::int64_t packed_size() const noexcept { return 2 * keys_.packed_size() + patterns_ * ap(); }

  void pack(const T* parameters, T* packed) const noexcept {
    keys_.pack(parameters + tensors_.K, nullptr, packed);
    keys_.pack(parameters + tensors_.V, nullptr, packed + keys_.packed_size());
    T* const q = packed + 2 * keys_.packed_size();
    std::fill_n(q, patterns_ * ap(), T{0});
    for (std::int64_t s = 0; s < patterns_; ++s) {
      std::copy_n(parameters + tensors_.Q + s * keys_.outputs(), keys_.outputs(), q + s * ap());
    }
  }

  void forward(const BatchLayout& layout, Rows<const T> out, const T* packed, Rows<T> pooled, Memory& memory,
               bool record, int n_threads) const {
    const std::int64_t n_sequences = layout.sequences(), rounds = updates_ + 1;
    const auto resize = [](std::vector<T>& to, std::int64_t count) { to.resize(static_cast<std::size_t>(count)); };
    resize(memory.keys, layout.rows() * ap());
    resize(memory.values, layout.rows() * ap());
    resize(memory.queries, n_sequences * patterns_ * rounds * ap());
    if (record) resize(memory.weights, layout.rows() * patterns_ * rounds);
    memory.first.resize(static_cast<std::size_t>(n_sequences));
    std::int64_t steps = 0;
    for (std::int64_t n = 0; n < n_sequences; ++n) {
      memory.first[static_cast<std::size_t>(n)] = steps;
      steps += layout.length(n);
    }
    const Rows<T> keys{memory.keys.data(), ap()}, values{memory.values.data(), ap()};
    SpinBarrier team;
    parallel(n_threads, [&](Member member) {
      const Member::Range rows = share_rows(layout, member);
      if (rows.begin < rows.end)
        project(packed, rows.end - rows.begin, out.from(rows.begin), keys.from(rows.begin), values.from(rows.begin));
      team.wait(member.size);
      const Member::Range range = share_sequences(layout, member);
      for (std::int64_t n = range.begin; n < range.end; ++n) {
        for (std::int64_t s = 0; s < patterns_; ++s) {
          T* q = query(memory, n, s, 0);
          std::copy_n(learned(packed, s), ap(), q);
          for (std::int64_t u = 0; u <= updates_; ++u, q += ap()) {
            T* const to = u < updates_ ? q + ap() : pooled[n] + s * ap();
            retrieve(layout, n, q, keys, u < updates_ ? keys : values, to,
                     record ? weights(memory, layout, n, s, u) : nullptr);
          }
        }
      }
    });
  }

  /// Gradients of the tensors, and d_keys and d_values for backward() below.
  void prepare_backward(const T* parameters, const BatchLayout& layout, Rows<const T> out, Rows<const T> d_pooled,
                        T* gradient, Memory& memory, int n_threads) const {
    const auto resize = [](std::vector<T>& to, std::int64_t count) { to.resize(static_cast<std::size_t>(count)); };
    const std::int64_t scratch_size = keys_.scratch();
    resize(memory.d_keys, layout.rows() * ap());
    resize(memory.d_values, layout.rows() * ap());
    resize(memory.d_queries, layout.sequences() * patterns_ * ap());
    resize(memory.slopes, layout.rows());
    resize(memory.back, 2 * keys_.back_size());
    resize(memory.scratch, scratch_size * n_threads);
    SpinBarrier team;
    parallel(n_threads, [&](Member member) {
      keys_.pack_back(parameters + tensors_.K, memory.back.data(), member);
      keys_.pack_back(parameters + tensors_.V, memory.back.data() + keys_.back_size(), member);
      const Member::Range range = share_sequences(layout, member);
      for (std::int64_t n = range.begin; n < range.end; ++n) sequence_backward(layout, n, d_pooled[n], memory);
      team.wait(member.size);
      T* const scratch = memory.scratch.data() + member.id * scratch_size;
      keys_.weight_gradient(layout.rows(), {memory.d_keys.data(), ap()}, out, gradient + tensors_.K, nullptr, scratch,
                            member);
      keys_.weight_gradient(layout.rows(), {memory.d_values.data(), ap()}, out, gradient + tensors_.V, nullptr, scratch,
                            member);
      const Member::Range patterns = member.share(patterns_);
      for (std::int64_t s = patterns.begin; s < patterns.end; ++s) {
        T* const to = gradient + tensors_.Q + s * keys_.outputs();
        std::fill_n(to, keys_.outputs(), T{0});
        for (std::int64_t n = 0; n < layout.sequences(); ++n) {
          add_scaled(keys_.outputs(), T{1}, memory.d_queries.data() + (n * patterns_ + s) * ap(), to);
        }
      }
    });
  }

  /// dh_t = Kᵀ dk_t + Vᵀ dx_t: this member's rows.
  void backward(const BatchLayout& layout, const Memory& memory, Rows<T> d_out, Member member) const noexcept {
    const Member::Range range = share_rows(layout, member);
    const T* const back = memory.back.data();
    keys_.input_gradient(Start::zero, back, range.begin, range.end, {memory.d_keys.data(), ap()}, d_out);
    keys_.input_gradient(Start::sum, back + keys_.back_size(), range.begin, range.end, {memory.d_values.data(), ap()},
                         d_out);
  }

  // --- streaming, without updates: per pattern the weighted sum so far [A padded], largest score, sum of weights -----

  /// An update needs all keys of the sequence, so that a new step changes the weights of those before it.
  bool streams() const noexcept { return updates_ == 0; }
  std::int64_t carried() const noexcept { return patterns_ * pitch(); }

  void start(T* state) const noexcept {
    for (std::int64_t s = 0; s < patterns_; ++s) {
      T* const at = std::fill_n(state + s * pitch(), ap(), T{0});
      const RunningSoftmax<T> fresh;
      at[0] = fresh.maximum;
      at[1] = fresh.total;
    }
  }

  /// scratch: 2·A elements, padded.
  void add(const T* packed, const T* h, T* state, T* scratch) const noexcept {
    T* const key = scratch;
    T* const value = scratch + ap();
    project(packed, 1, {h, keys_.input_stride()}, {key, ap()}, {value, ap()});
    for (std::int64_t s = 0; s < patterns_; ++s) {
      T* const sum = state + s * pitch();
      T* const at = sum + ap();
      RunningSoftmax<T> softmax{at[0], at[1]};
      softmax.add(beta_ * dot(ap(), learned(packed, s), key), ap(), value, sum);
      at[0] = softmax.maximum;
      at[1] = softmax.total;
    }
  }

  void finish(const T* state, T* pooled) const noexcept {
    for (std::int64_t s = 0; s < patterns_; ++s) {
      const T* const at = state + s * pitch() + ap();
      RunningSoftmax<T>{at[0], at[1]}.finish(ap(), state + s * pitch(), pooled + s * ap());
    }
  }

  std::int64_t width() const noexcept { return patterns_ * ap(); }
  /// Elements of a key, value or query.
  std::int64_t ap() const noexcept { return keys_.stride(); }

 private:
  std::int64_t pitch() const noexcept { return ap() + 2; }
  const T* learned(const T* packed, std::int64_t s) const noexcept {
    return packed + 2 * keys_.packed_size() + s * ap();
  }
  T* query(Memory& memory, std::int64_t n, std::int64_t s, std::int64_t u) const noexcept {
    return memory.queries.data() + ((n * patterns_ + s) * (updates_ + 1) + u) * ap();
  }
  T* weights(Memory& memory, const BatchLayout& layout, std::int64_t n, std::int64_t s, std::int64_t u) const noexcept {
    const std::int64_t rounds = updates_ + 1;
    return memory.weights.data() + memory.first[static_cast<std::size_t>(n)] * patterns_ * rounds +
           (s * rounds + u) * layout.length(n);
  }

  void project(const T* packed, std::int64_t count, Rows<const T> h, Rows<T> keys, Rows<T> values) const noexcept {
    keys_.forward(packed, count, h, keys);
    keys_.forward(packed + keys_.packed_size(), count, h, values);
  }

  /// to = Σ_t p_t from_t with p = softmax(β q·k); p is kept in `weights` where that is not null.
  void retrieve(const BatchLayout& layout, std::int64_t n, const T* q, Rows<T> keys, Rows<T> from, T* to,
                T* weights) const noexcept {
    RunningSoftmax<T> softmax;
    std::fill_n(to, ap(), T{0});
    for (std::int64_t t = 0; t < layout.length(n); ++t) {
      const std::int64_t row = layout.row(t, n);
      const T score = beta_ * dot(ap(), q, keys[row]);
      softmax.add(score, ap(), from[row], to);
      if (weights != nullptr) weights[t] = score;
    }
    softmax.finish(ap(), to, to);
    for (std::int64_t t = 0; weights != nullptr && t < layout.length(n); ++t) weights[t] = softmax.weight(weights[t]);
  }

  /// From the read-out back through all updates of every pattern. With g the gradient of what was retrieved from y
  /// (values in the read-out, keys in an update): dy_t += p_t g, ds_t = p_t·(g·y_t − Σ p g·y), dk_t += β ds_t q,
  /// dq = β Σ ds_t k_t, and dq is the g of the update before.
  void sequence_backward(const BatchLayout& layout, std::int64_t n, const T* d_pooled, Memory& memory) const noexcept {
    const Rows<T> keys{memory.keys.data(), ap()}, values{memory.values.data(), ap()};
    const Rows<T> d_keys{memory.d_keys.data(), ap()}, d_values{memory.d_values.data(), ap()};
    T* const slopes = memory.slopes.data() + memory.first[static_cast<std::size_t>(n)];
    for (std::int64_t t = 0; t < layout.length(n); ++t) {
      std::fill_n(d_keys[layout.row(t, n)], ap(), T{0});
      std::fill_n(d_values[layout.row(t, n)], ap(), T{0});
    }
    for (std::int64_t s = 0; s < patterns_; ++s) {
      T* const d_first = memory.d_queries.data() + (n * patterns_ + s) * ap();
      const T* g = d_pooled + s * ap();
      for (std::int64_t u = updates_; u >= 0; --u) {
        const Rows<T>& from = u < updates_ ? keys : values;
        const Rows<T>& d_from = u < updates_ ? d_keys : d_values;
        const T* const p = weights(memory, layout, n, s, u);
        T* const q = query(memory, n, s, u);
        T mean{0};
        for (std::int64_t t = 0; t < layout.length(n); ++t) {
          const std::int64_t row = layout.row(t, n);
          slopes[t] = dot(ap(), g, from[row]);
          mean += p[t] * slopes[t];
          add_scaled(ap(), p[t], g, d_from[row]);
        }
        for (std::int64_t t = 0; t < layout.length(n); ++t) {
          slopes[t] = beta_ * p[t] * (slopes[t] - mean);
          add_scaled(ap(), slopes[t], q, d_keys[layout.row(t, n)]);
        }
        // q is not needed any more, so that its place takes its gradient, the g of the update before.
        T* const dq = u > 0 ? q : d_first;
        std::fill_n(dq, ap(), T{0});
        for (std::int64_t t = 0; t < layout.length(n); ++t) {
          add_scaled(ap(), slopes[t], keys[layout.row(t, n)], dq);
        }
        g = dq;
      }
    }
  }

  Dense<T> keys_;  ///< shape of K and of V
  std::int64_t patterns_;
  std::int64_t updates_;
  T beta_;
  Tensors tensors_;
};

LSTMCORE_END_NAMESPACE
