// A layer that is more than a cell over time: what its pass reads and writes, and the interface of such layers.
//
// Blocks work on the rows of a whole batch (sequence/batch.hpp): most of them row by row, where each thread takes its
// share of rows, and in between on whole sequences. All threads of a group go through forward() and backward()
// together and meet between the parts.
#pragma once

#include "base/arena.hpp"
#include "kernels/column_sums.hpp"
#include "kernels/normalise.hpp"
#include "sequence/block_tensors.hpp"
#include "sequence/dense.hpp"
#include "sequence/pass.hpp"

#include <memory>

LSTMCORE_BEGIN_NAMESPACE

/// Everything one block reads and writes in a pass. Rows of outputs are padded(H) wide; an input row is one such group
/// for each direction of the layer below, or x.
template <class T>
struct BlockPass {
  const BatchLayout* layout = nullptr;
  const StackShape* shape = nullptr;
  bool reverse = false;
  bool record = false;
  std::int64_t slot = 0;
  const T* packed = nullptr;
  Rows<const T> x;
  Rows<T> out;
  std::array<Rows<const T>, 2> mask{};   ///< dropout: factors of what each residual branch adds, or of the output
  const void* const* initial = nullptr;  ///< the caller's arrays, as in ForwardOptions
  void* const* final_state = nullptr;

  // backward
  const T* parameters = nullptr;
  T* gradient = nullptr;
  Rows<const T> d_out;
  Rows<T> dx;  ///< absent where nobody asks
  Start dx_start = Start::zero;
  const void* const* d_final = nullptr;
  void* const* d_initial = nullptr;
  std::int64_t bptt_steps = 0;
  T* scratch = nullptr;  ///< of each thread in turn
  std::int64_t scratch_size = 0;

  std::int64_t rows() const noexcept { return layout->rows(); }
  std::int64_t sequences() const noexcept { return layout->sequences(); }
  /// Row of step t of a sequence in the order in which this direction reads it.
  std::int64_t row(std::int64_t t, std::int64_t n) const noexcept {
    return layout->row(reverse ? layout->length(n) - 1 - t : t, n);
  }
  /// Where the caller has state s of a sequence.
  template <class Pointer>
  auto* state(Pointer const* states, std::size_t s, std::int64_t n) const noexcept {
    using Value = std::conditional_t<std::is_same_v<Pointer, const void*>, const T, T>;
    return static_cast<Value*>(states[s]) + (slot * sequences() + layout->original(n)) * shape->state_width(s);
  }
  T* scratch_of(Member member) const noexcept { return scratch + member.id * scratch_size; }
};

/// What a pass over a block leaves for backward; kept from batch to batch.
struct BlockMemory {
  virtual ~BlockMemory() = default;
};

template <class T>
class Block {
 public:
  virtual ~Block() = default;

  virtual std::int64_t packed_size() const noexcept = 0;
  virtual void pack(const T* parameters, T* packed, Member member) const noexcept = 0;
  /// Elements of scratch that one thread needs in backward.
  virtual std::int64_t scratch_size() const noexcept = 0;
  /// How much of state s this block has; the rest of the caller's array is zero.
  virtual std::int64_t state_used(std::size_t s) const noexcept = 0;
  virtual double flops_per_row() const noexcept = 0;

  virtual std::unique_ptr<BlockMemory> make_memory() const = 0;
  /// Takes room, on one thread.
  virtual void prepare(const BlockPass<T>& pass, int n_threads, Arena& arena, BlockMemory& memory) const = 0;
  virtual void prepare_backward(const BlockPass<T>& pass, int n_threads, Arena& arena, BlockMemory& memory) const = 0;
  virtual void forward(const BlockPass<T>& pass, BlockMemory& memory, const Group& group) const noexcept = 0;
  virtual void backward(const BlockPass<T>& pass, BlockMemory& memory, const Group& group) const noexcept = 0;
};

/// Whether the group gives up.
inline bool gives_up(const Group& group) noexcept {
  if (group.cancel == nullptr) return false;
  group.wait();
  if (group.member.id == 0) *group.stop = group.check();
  group.wait();
  return *group.stop;
}

/// Room for rows of `width` elements, padded.
template <class T>
Rows<T> take_rows(Arena& arena, std::int64_t rows, std::int64_t width) {
  return {arena.take<T>(rows * width), width};
}

/// Row-by-row work: packs of `count` elements of rows [range).
template <class T, class F>
void for_packs(Member::Range range, std::int64_t count, F&& f) noexcept {
  for (std::int64_t row = range.begin; row < range.end; ++row) {
    for (std::int64_t j = 0; j < count; j += kLanes<T>) f(row, j);
  }
}

/// Normalisation of rows with a gain and no shift, of all units together or head by head.
template <class T>
class RowNorm {
 public:
  RowNorm(std::int64_t width, std::int64_t heads) noexcept
      : width_(width), heads_(heads), norm_(NormGroups{1, {}, width / heads}) {}

  struct Memory {
    Rows<T> normal, deviation;
  };
  /// Columns of a row: what a head's last pack writes too much finds room.
  std::int64_t stride() const noexcept { return padded<T>(width_) + kLanes<T>; }
  std::int64_t packed_size() const noexcept { return stride(); }
  void pack(const T* gain, T* packed) const noexcept {
    std::copy_n(gain, width_, packed);
    std::fill(packed + width_, packed + stride(), T{0});
  }
  void prepare(std::int64_t rows, Arena& arena, Memory& memory) const {
    memory.normal = take_rows<T>(arena, rows, stride());
    memory.deviation = take_rows<T>(arena, rows, heads_);
  }
  /// y must not be v where there are heads; both have stride() columns then, finite in the padding.
  void forward(const T* gain, std::int64_t row, const T* v, const Memory& memory, T* y) const noexcept {
    const std::int64_t d = width_ / heads_;
    for (std::int64_t h = 0; h < heads_; ++h) {
      norm_.forward(v + h * d, gain + h * d, nullptr, false, memory.deviation[row] + h, memory.normal[row] + h * d,
                    y + h * d);
    }
    std::fill(y + width_, y + padded<T>(width_), T{0});
  }
  /// dv must not be dy where there are heads.
  void backward(const T* gain, std::int64_t row, const Memory& memory, const T* dy, T* dv) const noexcept {
    const std::int64_t d = width_ / heads_;
    for (std::int64_t h = 0; h < heads_; ++h) {
      norm_.backward(memory.normal[row] + h * d, memory.deviation[row] + h, gain + h * d, dy + h * d, dv + h * d);
    }
    std::fill(dv + width_, dv + padded<T>(width_), T{0});
  }
  /// Gradient of the gain: this member's units.
  void gain_gradient(std::int64_t rows, Rows<const T> dy, const Memory& memory, T* gradient, T* scratch,
                     Member member) const noexcept {
    sum_products(rows, dy, memory.normal.read(), width_, gradient, scratch, member);
  }

  /// Σ over rows of a ⊙ b (of a alone where b is absent): this member's columns.
  static void sum_products(std::int64_t rows, Rows<const T> a, Rows<const T> b, std::int64_t width, T* out, T* scratch,
                           Member member) noexcept {
    const Member::Range range = member.share(blocks_of<T>(width));
    column_sums<T>(rows, a, 1, 0, b, nullptr, 1, 0, width, range.begin, range.end, scratch, out);
  }

 private:
  std::int64_t width_, heads_;
  LayerNorm<T> norm_;
};

/// x σ(x) and its derivative (Elfwing, Uchibe & Doya 2018: SiLU).
template <class V>
V swish(V x) noexcept {
  return x * math::logistic(x);
}
template <class V>
V swish_derivative(V x) noexcept {
  const V s = math::logistic(x);
  return s + x * math::logistic_derivative(s);
}

/// ½ x (1 + tanh(√(2/π) (x + 0.044715 x³))) and its derivative (Hendrycks & Gimpel 2016).
template <class V>
V gelu(V x) noexcept {
  const V inner = constant<V>(0.7978845608028654) * (x + constant<V>(0.044715) * x * x * x);
  return constant<V>(0.5) * x * (constant<V>(1) + math::tanh(inner));
}
template <class V>
V gelu_derivative(V x) noexcept {
  const V inner = constant<V>(0.7978845608028654) * (x + constant<V>(0.044715) * x * x * x);
  const V t = math::tanh(inner);
  const V slope = constant<V>(0.7978845608028654) * (constant<V>(1) + constant<V>(3 * 0.044715) * x * x);
  return constant<V>(0.5) * (constant<V>(1) + t) + constant<V>(0.5) * x * math::tanh_derivative(t) * slope;
}

LSTMCORE_END_NAMESPACE
