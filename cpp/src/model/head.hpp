// Pooling over time and the dense head.
#pragma once

#include "sequence/stack.hpp"

#include <Eigen/Core>

#include <lstmcore/model.hpp>

#include <cmath>
#include <type_traits>

LSTMCORE_BEGIN_NAMESPACE

/// Memory as an Eigen array, for element-wise work.
template <class T>
using Elements =
    Eigen::Map<std::conditional_t<std::is_const_v<T>, const Eigen::Array<std::remove_const_t<T>, Eigen::Dynamic, 1>,
                                  Eigen::Array<T, Eigen::Dynamic, 1>>>;

/// Outputs of the last layer [rows, D·Hp] → one vector per sequence [N, D·Hp], in sorted order.
template <class T>
class PoolingOverTime {
 public:
  PoolingOverTime(Pooling kind, int directions, std::int64_t hidden) noexcept
      : kind_(kind), directions_(directions), hidden_(hidden) {}

  std::int64_t width() const noexcept { return directions_ * padded<T>(hidden_); }

  /// arg_max: [N, D·Hp] step of each maximum, for backward; may be null.
  void forward(const BatchLayout& layout, Rows<const T> out, Rows<T> pooled, std::int32_t* arg_max) const noexcept {
    for (std::int64_t n = 0; n < layout.sequences(); ++n) {
      T* to = pooled[n];
      if (kind_ == Pooling::last) {
        const std::int64_t hp = padded<T>(hidden_);
        for (int d = 0; d < directions_; ++d) {
          const std::int64_t t = d == 0 ? layout.length(n) - 1 : 0;
          std::copy_n(out[layout.row(t, n)] + d * hp, hp, to + d * hp);
        }
        continue;
      }
      std::copy_n(out[layout.row(0, n)], width(), to);
      std::int32_t* at = arg_max == nullptr ? nullptr : arg_max + n * width();
      if (at != nullptr) std::fill_n(at, width(), 0);
      for (std::int64_t t = 1; t < layout.length(n); ++t) add(out[layout.row(t, n)], to, at, t);
      finish(layout.length(n), to);
    }
  }

  /// Gradient of this member's share of sequences: every row is written.
  void backward(const BatchLayout& layout, Rows<const T> d_pooled, const std::int32_t* arg_max, Rows<T> d_out,
                Member member) const noexcept {
    const std::int64_t hp = padded<T>(hidden_);
    const Member::Range range = member.share(layout.sequences());
    for (std::int64_t n = range.begin; n < range.end; ++n) {
      const T* from = d_pooled[n];
      const T share = T{1} / static_cast<T>(layout.length(n));
      for (std::int64_t t = 0; t < layout.length(n); ++t) {
        T* to = d_out[layout.row(t, n)];
        switch (kind_) {
          case Pooling::last:
            for (int d = 0; d < directions_; ++d) {
              const bool ends_here = t == (d == 0 ? layout.length(n) - 1 : 0);
              for (std::int64_t i = d * hp; i < (d + 1) * hp; ++i) to[i] = ends_here ? from[i] : T{0};
            }
            break;
          case Pooling::mean:
            Elements<T>(to, width()) = Elements<const T>(from, width()) * share;
            break;
          case Pooling::max:
            for (std::int64_t i = 0; i < width(); ++i) to[i] = arg_max[n * width() + i] == t ? from[i] : T{0};
            break;
        }
      }
    }
  }

  /// One more step of a stream or sequence into what has been pooled so far (not for `last`).
  void add(const T* h, T* pooled, std::int32_t* arg_max, std::int64_t t) const noexcept {
    if (kind_ == Pooling::mean) {
      Elements<T>(pooled, width()) += Elements<const T>(h, width());
    } else {
      for (std::int64_t i = 0; i < width(); ++i) {
        if (h[i] > pooled[i]) {
          pooled[i] = h[i];
          if (arg_max != nullptr) arg_max[i] = static_cast<std::int32_t>(t);
        }
      }
    }
  }

  /// What a sum over `length` steps becomes.
  void finish(std::int64_t length, T* pooled) const noexcept {
    if (kind_ != Pooling::mean) return;
    Elements<T>(pooled, width()) *= T{1} / static_cast<T>(length);
  }

  Pooling kind() const noexcept { return kind_; }

 private:
  Pooling kind_;
  int directions_;
  std::int64_t hidden_;
};

/// scores = pooled · Wᵀ + b. W: [K, D·H], b: [K].
template <class T>
class DenseHead {
 public:
  DenseHead(std::int64_t outputs, int directions, std::int64_t hidden) noexcept
      : outputs_(outputs), directions_(directions), hidden_(hidden) {}

  /// Elements of the packed weights.
  std::int64_t packed_size() const noexcept { return padded<T>(outputs_) * (directions_ * hidden_ + 1); }
  /// Columns of `scores` in forward().
  std::int64_t stride() const noexcept { return padded<T>(outputs_); }

  void pack(const T* w, const T* b, T* packed) const noexcept {
    const std::int64_t depth = directions_ * hidden_;
    pack_gate_vector<T>(b, 1, outputs_, packed);
    for (std::int64_t block = 0; block < blocks_of<T>(outputs_); ++block) {
      pack_gate_panel<T>(1, 1U, w, depth, outputs_, depth, block, packed + stride() + block * depth * kLanes<T>);
    }
  }

  void forward(const T* packed, std::int64_t n, Rows<const T> pooled, Rows<T> scores) const noexcept {
    const std::int64_t hp = padded<T>(hidden_);
    for (std::int64_t block = 0; block < blocks_of<T>(outputs_); ++block) {
      const std::int64_t column = block * kLanes<T>;
      const T* panel = packed + stride() + column * directions_ * hidden_;
      for (int d = 0; d < directions_; ++d) {
        panel_product<T, 1>(d == 0 ? Start::bias : Start::sum, n, hidden_, pooled.data + d * hp, pooled.stride, panel,
                            scores.data + column, scores.stride, packed + column);
        panel += hidden_ * kLanes<T>;
      }
    }
  }

  /// d_scores: [N, K]. Writes dW, db and d_pooled (zeros in the padding).
  ///
  /// Written as sums of scaled rows in the order of n and k. A matrix product of Eigen's is not used here: its
  /// vectorised sums begin where memory is aligned, so that the last bit would depend on where an allocator put the
  /// operands.
  void backward(const T* w, std::int64_t n, const T* d_scores, Rows<const T> pooled, T* dw, T* db,
                Rows<T> d_pooled) const noexcept {
    const std::int64_t hp = padded<T>(hidden_);
    const std::int64_t width = directions_ * hidden_;
    std::fill_n(dw, outputs_ * width, T{0});
    std::fill_n(db, outputs_, T{0});
    std::fill_n(d_pooled.data, n * d_pooled.stride, T{0});
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t k = 0; k < outputs_; ++k) {
        const T d = d_scores[i * outputs_ + k];
        db[k] += d;
        for (int direction = 0; direction < directions_; ++direction) {
          const std::int64_t column = k * width + direction * hidden_;
          add_scaled(d, pooled[i] + direction * hp, dw + column);
          add_scaled(d, w + column, d_pooled[i] + direction * hp);
        }
      }
    }
  }

 private:
  void add_scaled(T factor, const T* __restrict from, T* __restrict to) const noexcept {
    for (std::int64_t j = 0; j < hidden_; ++j) to[j] += factor * from[j];
  }

  std::int64_t outputs_;
  int directions_;
  std::int64_t hidden_;
};

/// Softmax of K scores in place.
template <class T>
void softmax(std::int64_t outputs, T* scores) noexcept {
  const T largest = *std::max_element(scores, scores + outputs);
  T sum{0};
  for (std::int64_t k = 0; k < outputs; ++k) {
    scores[k] = math::exp(scores[k] - largest);
    sum += scores[k];
  }
  for (std::int64_t k = 0; k < outputs; ++k) scores[k] /= sum;
}

LSTMCORE_END_NAMESPACE
