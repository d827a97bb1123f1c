// The matrix memories of all heads of one layer over a batch: who computes which, and their states.
#pragma once

#include "sequence/blocks/block.hpp"
#include "sequence/matrix_memory.hpp"

LSTMCORE_BEGIN_NAMESPACE

template <class T>
class HeadMemories {
 public:
  /// width: units of all heads together. C, n, m: indices of the states.
  HeadMemories(std::int64_t width, std::int64_t heads, std::int64_t chunk, bool exponential_forget, std::size_t C,
               std::size_t n, std::size_t m) noexcept
      : width_(width), heads_(heads), d_(width / heads), memory_(d_, chunk, exponential_forget), C_(C), n_(n), m_(m) {}

  std::int64_t group() const noexcept { return padded<T>(width_); }
  /// Columns of the rows of q, k and v side by side: what a head's last pack writes too much finds room.
  std::int64_t qkv_stride() const noexcept { return 3 * group() + kLanes<T>; }
  std::int64_t gate_stride() const noexcept { return padded<T>(2 * heads_); }
  std::int64_t h_stride() const noexcept { return group() + kLanes<T>; }
  double flops_per_row() const noexcept { return 8.0 * static_cast<double>(width_) * static_cast<double>(d_); }

  struct Memory {
    Rows<T> qkv, gates, h;  ///< filled by the layer; h of all heads, before the output gate
    Rows<T> inverse, active;
    Rows<T> d_qkv, d_gates, dh;
    std::vector<std::int64_t> first_chunk;  ///< of each sequence
    T* starts = nullptr;                    ///< [chunk][head][C, n]
    double* starts_m = nullptr;             ///< [chunk][head]
    T* ends = nullptr;                      ///< [N][head]
    double* ends_m = nullptr;
    T* window_starts = nullptr;  ///< truncated BPTT: as starts, for one head at a time
    double* window_starts_m = nullptr;
    std::vector<typename MatrixMemory<T>::Scratch> scratch;
  };

  void prepare(const BlockPass<T>& pass, int n_threads, Arena& arena, Memory& memory) const {
    const BatchLayout& layout = *pass.layout;
    const std::int64_t rows = layout.rows();
    memory.qkv = take_rows<T>(arena, rows, qkv_stride());
    memory.gates = take_rows<T>(arena, rows, gate_stride());
    memory.h = take_rows<T>(arena, rows, h_stride());
    memory.scratch.clear();
    for (int id = 0; id < n_threads; ++id) {
      memory.scratch.push_back(memory_.scratch(layout.steps(), pass.record, arena));
    }
    if (!pass.record) return;
    memory.inverse = take_rows<T>(arena, rows, heads_);
    memory.active = take_rows<T>(arena, rows, heads_);
    memory.first_chunk.resize(static_cast<std::size_t>(layout.sequences()));
    std::int64_t chunks = 0;
    for (std::int64_t n = 0; n < layout.sequences(); ++n) {
      memory.first_chunk[static_cast<std::size_t>(n)] = chunks;
      chunks += memory_.chunks(layout.length(n), 0);
    }
    memory.starts = arena.take<T>(chunks * heads_ * memory_.state_size());
    memory.starts_m = arena.take<double>(chunks * heads_);
    memory.ends = arena.take<T>(layout.sequences() * heads_ * memory_.state_size());
    memory.ends_m = arena.take<double>(layout.sequences() * heads_);
  }

  void prepare_backward(const BlockPass<T>& pass, int n_threads, Arena& arena, Memory& memory) const {
    const std::int64_t rows = pass.rows();
    memory.d_qkv = take_rows<T>(arena, rows, qkv_stride());
    memory.d_gates = take_rows<T>(arena, rows, gate_stride());
    memory.dh = take_rows<T>(arena, rows, h_stride());
    if (pass.bptt_steps == 0) return;
    const std::int64_t chunks = n_threads * memory_.chunks(pass.layout->steps(), pass.bptt_steps);
    memory.window_starts = arena.take<T>(chunks * memory_.state_size());
    memory.window_starts_m = arena.take<double>(chunks);
  }

  /// What lies between and behind the heads' columns must be finite.
  void clear_padding(const Memory& memory, Member::Range rows) const noexcept { clear(memory.h, 1, rows); }
  void clear_gradient_padding(const Memory& memory, Member::Range rows) const noexcept {
    clear(memory.dh, 1, rows);
    clear(memory.d_qkv, 3, rows);
    for (std::int64_t row = rows.begin; row < rows.end; ++row) {
      std::fill(memory.d_gates[row] + 2 * heads_, memory.d_gates[row] + gate_stride(), T{0});
    }
  }

  /// This member's heads of all sequences; q, k, v and gates must be there.
  void forward(const BlockPass<T>& pass, Memory& memory, Member member) const noexcept {
    typename MatrixMemory<T>::Scratch& scratch = memory.scratch[static_cast<std::size_t>(member.id)];
    const bool wanted = pass.final_state != nullptr || pass.record;
    for (std::int64_t pair = member.id; pair < pass.sequences() * heads_; pair += member.size) {
      const std::int64_t n = pair / heads_;
      const std::int64_t head = pair % heads_;
      MemoryRun<T> run = make_run(pass, memory, n, head);
      double m = 0;
      T* const values = pass.record ? memory.ends + pair * memory_.state_size() : scratch.state;
      const MemoryState<T> state = start(pass, n, head, values, m);
      T* starts = nullptr;
      double* starts_m = nullptr;
      if (pass.record) {
        const std::int64_t chunk = first_chunk(memory, n) * heads_ + head;
        starts = memory.starts + chunk * memory_.state_size();
        starts_m = memory.starts_m + chunk;
      }
      memory_.forward(run, state, wanted, 0, starts, starts_m, heads_, scratch);
      if (pass.record) memory.ends_m[pair] = m;
      if (pass.final_state != nullptr) write(pass, pass.final_state, n, head, values, m);
    }
  }

  /// dh → d_qkv and d_gates, and gradients of initial states.
  void backward(const BlockPass<T>& pass, Memory& memory, Member member) const noexcept {
    typename MatrixMemory<T>::Scratch& scratch = memory.scratch[static_cast<std::size_t>(member.id)];
    for (std::int64_t pair = member.id; pair < pass.sequences() * heads_; pair += member.size) {
      const std::int64_t n = pair / heads_;
      const std::int64_t head = pair % heads_;
      MemoryRun<T> run = make_run(pass, memory, n, head);
      run.wants_initial = pass.d_initial != nullptr;
      const std::int64_t chunk = first_chunk(memory, n) * heads_ + head;
      const T* starts = memory.starts + chunk * memory_.state_size();
      const double* starts_m = memory.starts_m + chunk;
      std::int64_t stride = heads_;
      if (pass.bptt_steps > 0) {
        // Chunks that end where windows end: the states before them are found once more.
        const std::int64_t room = memory_.chunks(pass.layout->steps(), pass.bptt_steps) * member.id;
        T* const to = memory.window_starts + room * memory_.state_size();
        double* const to_m = memory.window_starts_m + room;
        double m = 0;
        const MemoryState<T> state = start(pass, n, head, scratch.state, m);
        MemoryRun<T> states_only = run;
        states_only.h = {};
        memory_.forward(states_only, state, false, pass.bptt_steps, to, to_m, 1, scratch);
        starts = to;
        starts_m = to_m;
        stride = 1;
      }
      double dm = 0;
      const MemoryState<T> d_state{scratch.d_state, scratch.d_state + d_ * memory_.stride(), &dm};
      read(pass, pass.d_final, n, head, d_state);
      double m_end = memory.ends_m[pair];
      T* const end = memory.ends + pair * memory_.state_size();
      const auto columns = [&](Rows<T> rows, std::int64_t group_index) {
        return rows.columns(group_index * group() + head * d_);
      };
      const MemoryGradients<T> to{columns(memory.dh, 0).read(), columns(memory.d_qkv, 0),
                                  columns(memory.d_qkv, 1),     columns(memory.d_qkv, 2),
                                  memory.d_gates.columns(head), memory.d_gates.columns(heads_ + head)};
      memory_.backward(run, to, starts, starts_m, stride, {end, end + d_ * memory_.stride(), &m_end}, d_state,
                       pass.d_final != nullptr, pass.bptt_steps, scratch);
      if (pass.d_initial != nullptr) write(pass, pass.d_initial, n, head, scratch.d_state, dm);
    }
  }

  std::int64_t state_used(std::size_t s) const noexcept {
    return s == C_ ? width_ * d_ : s == n_ ? width_ : s == m_ ? heads_ : 0;
  }

 private:
  void clear(Rows<T> rows, std::int64_t groups, Member::Range range) const noexcept {
    for (std::int64_t row = range.begin; row < range.end; ++row) {
      for (std::int64_t g = 0; g < groups; ++g) {
        std::fill_n(rows[row] + g * group() + width_, group() - width_, T{0});
      }
      std::fill_n(rows[row] + groups * group(), kLanes<T>, T{0});
    }
  }

  static std::int64_t first_chunk(const Memory& memory, std::int64_t n) noexcept {
    return memory.first_chunk[static_cast<std::size_t>(n)];
  }

  MemoryRun<T> make_run(const BlockPass<T>& pass, const Memory& memory, std::int64_t n,
                        std::int64_t head) const noexcept {
    MemoryRun<T> run;
    run.layout = pass.layout;
    run.reverse = pass.reverse;
    run.sequence = n;
    const auto columns = [&](std::int64_t group_index) {
      return memory.qkv.columns(group_index * group() + head * d_).read();
    };
    run.q = columns(0);
    run.k = columns(1);
    run.v = columns(2);
    run.i = memory.gates.columns(head).read();
    run.f = memory.gates.columns(heads_ + head).read();
    run.h = memory.h.columns(head * d_);
    if (pass.record) {
      run.inverse = memory.inverse.columns(head);
      run.active = memory.active.columns(head);
    }
    run.starts_empty = pass.initial == nullptr;
    return run;
  }

  MemoryState<T> start(const BlockPass<T>& pass, std::int64_t n, std::int64_t head, T* values,
                       double& m) const noexcept {
    const MemoryState<T> state{values, values + d_ * memory_.stride(), &m};
    read(pass, pass.initial, n, head, state);
    return state;
  }

  /// The caller's C is [head][v][k], ours [k][v].
  void read(const BlockPass<T>& pass, const void* const* states, std::int64_t n, std::int64_t head,
            const MemoryState<T>& to) const noexcept {
    std::fill_n(to.C, memory_.state_size(), T{0});
    *to.m = 0;
    if (states == nullptr) return;
    const T* const C = pass.state(states, C_, n) + head * d_ * d_;
    for (std::int64_t v = 0; v < d_; ++v) {
      for (std::int64_t k = 0; k < d_; ++k) to.C[k * memory_.stride() + v] = C[v * d_ + k];
    }
    std::copy_n(pass.state(states, n_, n) + head * d_, d_, to.n);
    *to.m = static_cast<double>(pass.state(states, m_, n)[head]);
  }

  void write(const BlockPass<T>& pass, void* const* states, std::int64_t n, std::int64_t head, const T* values,
             double m) const noexcept {
    T* const C = pass.state(states, C_, n) + head * d_ * d_;
    for (std::int64_t v = 0; v < d_; ++v) {
      for (std::int64_t k = 0; k < d_; ++k) C[v * d_ + k] = values[k * memory_.stride() + v];
    }
    std::copy_n(values + d_ * memory_.stride(), d_, pass.state(states, n_, n) + head * d_);
    pass.state(states, m_, n)[head] = static_cast<T>(m);
  }

  std::int64_t width_, heads_, d_;
  MatrixMemory<T> memory_;
  std::size_t C_, n_, m_;
};

LSTMCORE_END_NAMESPACE
