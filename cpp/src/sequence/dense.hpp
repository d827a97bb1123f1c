// Dense layers: rows of activations times a matrix, for a few rows (heads) and for many that threads share (pooling).
#pragma once

#include "base/threads.hpp"
#include "kernels/matrix.hpp"
#include "kernels/weight_gradient.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>

LSTMCORE_BEGIN_NAMESPACE

/// Σ a[i]·b[i] in an order that depends on `count` and the width of a pack only.
template <class T>
inline T dot(std::int64_t count, const T* a, const T* b) noexcept {
  constexpr std::int64_t W = kLanes<T>;
  Pack<T> sums{};
  std::int64_t i = 0;
  for (; i + W <= count; i += W) sums += load(a + i) * load(b + i);
  T total{0};
  for (; i < count; ++i) total += a[i] * b[i];
  for (int lane = 0; lane < W; ++lane) total += sums[lane];
  return total;
}

template <class T>
inline void add_scaled(std::int64_t count, T factor, const T* __restrict from, T* __restrict to) noexcept {
  for (std::int64_t i = 0; i < count; ++i) to[i] += factor * from[i];
}

/// The same with several sums side by side, so that a long row does not wait for each of its multiply-adds.
template <class T>
inline T wide_dot(std::int64_t count, const T* a, const T* b) noexcept {
  constexpr int kSums = 4;
  constexpr std::int64_t W = kLanes<T>;
  Pack<T> sums[kSums]{};
  std::int64_t i = 0;
  for (; i + kSums * W <= count; i += kSums * W) {
    for (int s = 0; s < kSums; ++s) sums[s] += load(a + i + s * W) * load(b + i + s * W);
  }
  for (; i + W <= count; i += W) sums[0] += load(a + i) * load(b + i);
  T lanes[W];
  store(lanes, (sums[0] + sums[1]) + (sums[2] + sums[3]));
  for (std::int64_t half = W / 2; half > 0; half /= 2) {
    for (std::int64_t lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
  }
  T total = lanes[0];
  for (; i < count; ++i) total += a[i] * b[i];
  return total;
}

/// y = x · Wᵀ + b. W: [outputs, groups·width]; a row of x is `groups` groups of `width` columns, each padded to whole
/// packs (directions of a recurrent layer, patterns of a Hopfield pooling); a row of y is padded likewise, with zeros.
template <class T>
class Dense {
 public:
  Dense(std::int64_t outputs, std::int64_t groups, std::int64_t width) noexcept
      : outputs_(outputs), groups_(groups), width_(width) {}

  std::int64_t outputs() const noexcept { return outputs_; }
  std::int64_t groups() const noexcept { return groups_; }
  std::int64_t width() const noexcept { return width_; }
  std::int64_t depth() const noexcept { return groups_ * width_; }
  /// Elements of a row of y, and of x.
  std::int64_t stride() const noexcept { return padded<T>(outputs_); }
  std::int64_t input_stride() const noexcept { return groups_ * padded<T>(width_); }
  /// Elements of the packed weights.
  std::int64_t packed_size() const noexcept { return stride() * (depth() + 1); }

  /// b: null for no bias.
  void pack(const T* w, const T* b, T* packed) const noexcept { pack(w, b, packed, Member{}); }
  /// This member's share of it.
  void pack(const T* w, const T* b, T* packed, Member member) const noexcept {
    if (member.id == 0) {
      std::fill_n(packed, stride(), T{0});
      if (b != nullptr) std::copy_n(b, outputs_, packed);
      if (outputs_ == 1) std::copy_n(w, depth(), packed + stride());
    }
    if (outputs_ == 1) return;
    const Panels<T> panels = front_panels(packed);
    const Member::Range range = member.share(panels.count());
    for (std::int64_t p = range.begin; p < range.end; ++p) {
      const std::int64_t column = panels.column(p);
      pack_panel_transposed<T>(panels.packs(p), depth(), outputs_ - column, w + column * depth(), depth(),
                               panels.panel(p));
    }
  }

  void forward(const T* packed, std::int64_t n, Rows<const T> x, Rows<T> y) const noexcept {
    if (outputs_ == 1) {
      forward_one(packed, n, x, y);
      return;
    }
    const Panels<T> panels = front_panels(const_cast<T*>(packed));
    for (std::int64_t row = 0; row < n; row += kRowBlock) {
      const std::int64_t m = std::min(kRowBlock, n - row);
      for (std::int64_t p = 0; p < panels.count(); ++p) {
        const std::int64_t column = panels.column(p);
        const T* panel = panels.panel(p);
        for (std::int64_t group = 0; group < groups_; ++group) {
          panel_product<T>(panels.packs(p), group == 0 ? Start::bias : Start::sum, m, width_,
                           x[row] + group * padded<T>(width_), x.stride, panel, y[row] + column, y.stride,
                           packed + column);
          panel += width_ * panels.packs(p) * kLanes<T>;
        }
      }
    }
  }

  /// Few rows, on one thread. Writes dW, db and dx (zeros in the padding).
  ///
  /// Written as sums of scaled rows in the order of n and k. A matrix product of Eigen's is not used here: its
  /// vectorised sums begin where memory is aligned, so that the last bit would depend on where an allocator put the
  /// operands.
  void backward(const T* w, std::int64_t n, Rows<const T> dy, Rows<const T> x, T* dw, T* db,
                Rows<T> dx) const noexcept {
    std::fill_n(dw, outputs_ * depth(), T{0});
    std::fill_n(db, outputs_, T{0});
    std::fill_n(dx.data, n * dx.stride, T{0});
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t k = 0; k < outputs_; ++k) {
        const T d = dy[i][k];
        db[k] += d;
        for (std::int64_t group = 0; group < groups_; ++group) {
          const std::int64_t column = k * depth() + group * width_;
          const std::int64_t at = group * padded<T>(width_);
          add_scaled(width_, d, x[i] + at, dw + column);
          add_scaled(width_, d, w + column, dx[i] + at);
        }
      }
    }
  }

  // --- many rows, shared by threads ---------------------------------------------------------------------------------

  /// Elements of the weights packed for input_gradient().
  std::int64_t back_size() const noexcept { return groups_ * back_group(); }

  /// This member's share of the packing.
  void pack_back(const T* w, T* packed, Member member) const noexcept {
    for (std::int64_t group = 0; group < groups_; ++group) {
      const Panels<T> panels = back_panels(packed, group);
      const Member::Range range = member.share(panels.count());
      for (std::int64_t p = range.begin; p < range.end; ++p) {
        pack_back_panel<T>(1, 1U, w + group * width_, depth(), outputs_, width_, panels.column(p), panels.packs(p), 0,
                           blocks_of<T>(outputs_), panels.panel(p));
      }
    }
  }

  /// dx = or += dy · W for rows [begin, end). The padding of dy must be finite.
  void input_gradient(Start start, const T* packed, std::int64_t begin, std::int64_t end, Rows<const T> dy,
                      Rows<T> dx) const noexcept {
    if (begin >= end) return;
    for (std::int64_t group = 0; group < groups_; ++group) {
      const Panels<T> panels = back_panels(const_cast<T*>(packed), group);
      rows_times_panels<T>(start, end - begin, dy[begin], dy.stride, panels, 0, panels.count(),
                           dx[begin] + group * padded<T>(width_), dx.stride);
    }
  }

  /// Elements of scratch that one thread needs for weight_gradient().
  std::int64_t scratch() const noexcept { return WeightGradient<T>::scratch(width_); }

  /// Outputs whose rows of dW a member writes; the last may lie in the padding.
  Member::Range gradient_share(Member member) const noexcept {
    return member.share(stride(), WeightGradient<T>::kTileRows);
  }

  /// dW and db (null: none) over all rows: this member's outputs, each a sum in the order of the rows.
  void weight_gradient(std::int64_t rows, Rows<const T> dy, Rows<const T> x, T* dw, T* db, T* scratch,
                       Member member) const noexcept {
    const Member::Range range = gradient_share(member);
    for (std::int64_t group = 0; group < groups_; ++group) {
      GradientOperand<T> operand;
      operand.rows = x.columns(group * padded<T>(width_));
      operand.columns = width_;
      operand.gradient = dw + group * width_;
      operand.ld_gradient = depth();
      WeightGradient<T>::run(rows, dy, 1, outputs_, range.begin, range.end, &operand, 1, group == 0 ? db : nullptr,
                             scratch);
    }
  }

 private:
  /// A panel would have one column in use, and one chain of multiply-adds as long as x.
  void forward_one(const T* packed, std::int64_t n, Rows<const T> x, Rows<T> y) const noexcept {
    for (std::int64_t row = 0; row < n; ++row) {
      const T* w = packed + stride();
      T total = packed[0];
      for (std::int64_t group = 0; group < groups_; ++group, w += width_) {
        total += wide_dot(width_, x[row] + group * padded<T>(width_), w);
      }
      store(y[row], Pack<T>{});
      y[row][0] = total;
    }
  }

  Panels<T> front_panels(T* packed) const noexcept { return {packed + stride(), depth(), blocks_of<T>(outputs_)}; }
  std::int64_t back_group() const noexcept { return Panels<T>::size(stride(), blocks_of<T>(width_)); }
  Panels<T> back_panels(T* packed, std::int64_t group) const noexcept {
    return {packed + group * back_group(), stride(), blocks_of<T>(width_)};
  }

  std::int64_t outputs_;
  std::int64_t groups_;
  std::int64_t width_;
};

LSTMCORE_END_NAMESPACE
