// Depthwise causal convolution over time with swish: every unit sees its own last four values.
//
//   a_t = b + Σ_τ w_τ ⊙ x_{t − 3 + τ}      y_t = a_t σ(a_t)
//
// What came before the first step is a state, [3, F] with the oldest first, so that sequences may be continued.
#pragma once

#include "sequence/blocks/block.hpp"

LSTMCORE_BEGIN_NAMESPACE

template <class T>
class CausalConv {
 public:
  static constexpr std::int64_t kBefore = kConvSteps - 1;

  explicit CausalConv(std::int64_t width) noexcept : width_(width), stride_(padded<T>(width)) {}

  std::int64_t state_size() const noexcept { return kBefore * width_; }
  std::int64_t packed_size() const noexcept { return (kConvSteps + 1) * stride_; }
  /// w: [F, 4] → [4][Fp], then b.
  void pack(const T* w, const T* b, T* packed) const noexcept {
    std::fill_n(packed, packed_size(), T{0});
    for (std::int64_t unit = 0; unit < width_; ++unit) {
      for (std::int64_t tap = 0; tap < kConvSteps; ++tap) packed[tap * stride_ + unit] = w[unit * kConvSteps + tap];
      packed[kConvSteps * stride_ + unit] = b[unit];
    }
  }

  struct Memory {
    Rows<T> before;  ///< [N·3, Fp]: the initial states
    Rows<T> a;       ///< before swish
    Rows<T> y;
    Rows<T> da;
    Rows<T> d_before;
  };
  void prepare(const BlockPass<T>& pass, std::int64_t y_stride, Arena& arena, Memory& memory) const {
    memory.before = take_rows<T>(arena, pass.sequences() * kBefore, stride_);
    memory.a = take_rows<T>(arena, pass.rows(), stride_);
    memory.y = take_rows<T>(arena, pass.rows(), y_stride);
  }
  void prepare_backward(const BlockPass<T>& pass, Arena& arena, Memory& memory) const {
    memory.da = take_rows<T>(arena, pass.rows(), stride_);
    memory.d_before = take_rows<T>(arena, pass.sequences() * kBefore, stride_);
  }

  /// Initial states of this member's sequences. s: the state's index.
  void start(const BlockPass<T>& pass, std::size_t s, const Memory& memory, Member member) const noexcept {
    const Member::Range range = member.share(pass.sequences());
    for (std::int64_t n = range.begin; n < range.end; ++n) {
      for (std::int64_t j = 0; j < kBefore; ++j) {
        T* const to = memory.before[n * kBefore + j];
        std::fill_n(to, stride_, T{0});
        if (pass.initial != nullptr) std::copy_n(pass.state(pass.initial, s, n) + j * width_, width_, to);
      }
    }
  }

  /// a and y of this member's sequences.
  void forward(const BlockPass<T>& pass, const T* packed, Rows<const T> x, const Memory& memory,
               Member member) const noexcept {
    const std::int64_t first = pass.layout->boundary(member.id, member.size);
    const std::int64_t last = pass.layout->boundary(member.id + 1, member.size);
    for (std::int64_t n = first; n < last; ++n) {
      for (std::int64_t t = 0; t < pass.layout->length(n); ++t) {
        std::array<const T*, kConvSteps> seen;
        for (std::int64_t tap = 0; tap < kConvSteps; ++tap) {
          seen[static_cast<std::size_t>(tap)] = at(pass, x, memory.before, t - kBefore + tap, n);
        }
        const std::int64_t row = pass.row(t, n);
        T* const a = memory.a[row];
        T* const y = memory.y[row];
        for (std::int64_t j = 0; j < stride_; j += kLanes<T>) {
          Pack<T> sum = load(packed + kConvSteps * stride_ + j);
          for (std::int64_t tap = 0; tap < kConvSteps; ++tap) {
            sum += load(packed + tap * stride_ + j) * load(seen[static_cast<std::size_t>(tap)] + j);
          }
          store(a + j, sum);
          store(y + j, swish(sum));
        }
        std::fill(y + stride_, y + memory.y.stride, T{0});
      }
    }
  }

  void finish(const BlockPass<T>& pass, std::size_t s, Rows<const T> x, const Memory& memory,
              Member member) const noexcept {
    if (pass.final_state == nullptr) return;
    const Member::Range range = member.share(pass.sequences());
    for (std::int64_t n = range.begin; n < range.end; ++n) {
      T* const to = pass.state(pass.final_state, s, n);
      for (std::int64_t j = 0; j < kBefore; ++j) {
        std::copy_n(at(pass, x, memory.before, pass.layout->length(n) - kBefore + j, n), width_, to + j * width_);
      }
    }
  }

  /// da = dy ⊙ swish'(a) for rows of this member.
  void swish_backward(const Memory& memory, Rows<const T> dy, Member::Range range) const noexcept {
    for_packs<T>(range, stride_, [&](std::int64_t row, std::int64_t j) {
      store(memory.da[row] + j, load(dy[row] + j) * swish_derivative(load(memory.a[row] + j)));
    });
  }

  /// dx = or += what came through da, and gradients of the initial state: this member's sequences. da of all rows must
  /// be there.
  void backward(const BlockPass<T>& pass, const T* packed, std::size_t s, const Memory& memory, Start start, Rows<T> dx,
                Member member) const noexcept {
    const std::int64_t first = pass.layout->boundary(member.id, member.size);
    const std::int64_t last = pass.layout->boundary(member.id + 1, member.size);
    for (std::int64_t n = first; n < last; ++n) {
      const std::int64_t steps = pass.layout->length(n);
      const T* const d_final = pass.d_final == nullptr ? nullptr : pass.state(pass.d_final, s, n);
      for (std::int64_t t = -kBefore; t < steps; ++t) {
        T* const to = t < 0 ? memory.d_before[n * kBefore + t + kBefore] : dx[pass.row(t, n)];
        if (t < 0 || start == Start::zero) std::fill_n(to, stride_, T{0});
        // A value is seen by its own step and the three after it, unless a window of truncated BPTT ends in between.
        for (std::int64_t ahead = std::max<std::int64_t>(0, -t); ahead < kConvSteps && t + ahead < steps; ++ahead) {
          if (pass.bptt_steps > 0 && std::max<std::int64_t>(t, 0) / pass.bptt_steps != (t + ahead) / pass.bptt_steps)
            break;
          const T* const da = memory.da[pass.row(t + ahead, n)];
          const T* const w = packed + (kBefore - ahead) * stride_;
          for (std::int64_t j = 0; j < stride_; j += kLanes<T>) {
            store(to + j, load(to + j) + load(w + j) * load(da + j));
          }
        }
        const std::int64_t kept = t - (steps - kBefore);
        if (d_final != nullptr && kept >= 0) {
          for (std::int64_t j = 0; j < width_; ++j) to[j] += d_final[kept * width_ + j];
        }
        if (t < 0 && pass.d_initial != nullptr) {
          std::copy_n(to, width_, pass.state(pass.d_initial, s, n) + (t + kBefore) * width_);
        }
      }
    }
  }

  /// Gradients of w and b: this member's units, in the order of sequences and steps.
  void weight_gradient(const BlockPass<T>& pass, Rows<const T> x, const Memory& memory, T* dw, T* db, T* scratch,
                       Member member) const noexcept {
    const Member::Range blocks = member.share(stride_ / kLanes<T>);
    const std::int64_t begin = blocks.begin * kLanes<T>;
    const std::int64_t end = blocks.end * kLanes<T>;
    std::fill_n(scratch, packed_size(), T{0});
    for (std::int64_t n = 0; n < pass.sequences(); ++n) {
      for (std::int64_t t = 0; t < pass.layout->length(n); ++t) {
        const T* const da = memory.da[pass.row(t, n)];
        for (std::int64_t tap = 0; tap <= kConvSteps; ++tap) {
          T* const sum = scratch + tap * stride_;
          const T* const seen = tap < kConvSteps ? at(pass, x, memory.before, t - kBefore + tap, n) : nullptr;
          for (std::int64_t j = begin; j < end; j += kLanes<T>) {
            store(sum + j, load(sum + j) + (seen == nullptr ? load(da + j) : load(da + j) * load(seen + j)));
          }
        }
      }
    }
    for (std::int64_t unit = begin; unit < std::min(end, width_); ++unit) {
      for (std::int64_t tap = 0; tap < kConvSteps; ++tap) dw[unit * kConvSteps + tap] = scratch[tap * stride_ + unit];
      db[unit] = scratch[kConvSteps * stride_ + unit];
    }
  }

 private:
  /// x of a step, or of one before the first.
  static const T* at(const BlockPass<T>& pass, Rows<const T> x, const Rows<T>& before, std::int64_t t,
                     std::int64_t n) noexcept {
    return t < 0 ? before[n * kBefore + t + kBefore] : x[pass.row(t, n)];
  }

  std::int64_t width_, stride_;
};

LSTMCORE_END_NAMESPACE
