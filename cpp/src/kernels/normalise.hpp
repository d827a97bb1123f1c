// Layer normalisation (Ba, Kiros & Hinton 2016) of rows in block order: forward and, below, backward.
#pragma once

#include "kernels/packing.hpp"

#include <algorithm>
#include <array>
#include <cmath>

LSTMCORE_BEGIN_NAMESPACE

inline constexpr double kNormEpsilon = 1e-5;  // added to the variance
inline constexpr int kMaxNormGroups = 2;

/// Which elements of a row are normalised together: gates of one group.
struct NormGroups {
  int gates = 1;
  std::array<int, 4> group = {0, 0, 0, 0};
  std::int64_t hidden = 0;
};

template <class T>
class LayerNorm {
 public:
  explicit LayerNorm(const NormGroups& groups) noexcept
      : groups_(groups), blocks_(blocks_of<T>(groups.hidden)), count_(1) {
    for (int gate = 0; gate < groups.gates; ++gate) {
      size_[group(gate)] += static_cast<T>(groups.hidden);
      count_ = std::max(count_, group(gate) + 1);
    }
    const std::int64_t last = groups.hidden - (blocks_ - 1) * kLanes<T>;
    for (int lane = 0; lane < kLanes<T>; ++lane) tail_[lane] = lane < last ? T{1} : T{0};
  }

  /// normalised = (v − mean) / √(variance + ε), with zeros in the padding; may be v, or null where nobody wants it.
  /// inverse_deviation: one a group, for backward. y = gain ⊙ normalised (+ shift) (+ y); may be v.
  void forward(const T* v, const T* gain, const T* shift, bool add, T* inverse_deviation, T* normalised,
               T* y) const noexcept {
    std::array<T, kMaxNormGroups> mean{};
    for (std::size_t g = 0; g < count_; ++g) {
      mean[g] = sum(g, [v](std::int64_t at) { return load(v + at); }) / size_[g];
      const T center = mean[g];
      const T variance = sum(g,
                             [v, center](std::int64_t at) {
                               const Pack<T> d = load(v + at) - center;
                               return d * d;
                             }) /
                         size_[g];
      inverse_deviation[g] = T{1} / std::sqrt(variance + static_cast<T>(kNormEpsilon));
    }
    visit([&](std::size_t g, std::int64_t at, Pack<T> present) {
      const Pack<T> value = (load(v + at) - mean[g]) * (inverse_deviation[g] * present);
      if (normalised != nullptr) store(normalised + at, value);
      Pack<T> scaled = load(gain + at) * value;
      if (shift != nullptr) scaled += load(shift + at);
      if (add) scaled += load(y + at);
      store(y + at, scaled);
    });
  }

  /// dy: gradient of y. dx: receives the gradient of v; may be dy or normalised itself.
  void backward(const T* normalised, const T* inverse_deviation, const T* gain, const T* dy, T* dx) const noexcept {
    std::array<T, kMaxNormGroups> mean{};
    std::array<T, kMaxNormGroups> projection{};
    for (std::size_t g = 0; g < count_; ++g) {
      mean[g] = sum(g, [=](std::int64_t at) { return load(dy + at) * load(gain + at); }) / size_[g];
      projection[g] =
          sum(g, [=](std::int64_t at) { return load(dy + at) * load(gain + at) * load(normalised + at); }) / size_[g];
    }
    visit([&](std::size_t g, std::int64_t at, Pack<T> present) {
      const Pack<T> d = load(dy + at) * load(gain + at);
      store(dx + at, (d - mean[g] - load(normalised + at) * projection[g]) * (inverse_deviation[g] * present));
    });
  }

  /// y = gain ⊙ v + shift.
  void scale(const T* v, const T* gain, const T* shift, T* y) const noexcept {
    const std::int64_t width = blocks_ * groups_.gates * kLanes<T>;
    for (std::int64_t at = 0; at < width; at += kLanes<T>) {
      store(y + at, load(gain + at) * load(v + at) + load(shift + at));
    }
  }

 private:
  std::size_t group(int gate) const noexcept {
    return static_cast<std::size_t>(groups_.group[static_cast<std::size_t>(gate) & 3U]);  // at most 4 gates
  }

  /// Σ f over the units of one group. Four sums side by side: one alone would wait for each addition in turn, which
  /// took half the time of a layer-normalised step at H = 64.
  template <class F>
  T sum(std::size_t g, F&& f) const noexcept {
    constexpr int W = kLanes<T>;
    std::array<Pack<T>, 4> sums{};
    const std::int64_t width = std::int64_t{groups_.gates} * W;
    const std::int64_t last = (blocks_ - 1) * width;  // the last block may have padding
    if (count_ == 1) {
      std::int64_t at = 0;
      for (; at + 4 * W <= last; at += 4 * W) {
        for (int k = 0; k < 4; ++k) sums[static_cast<std::size_t>(k)] += f(at + k * W);
      }
      for (; at < last; at += W) sums[0] += f(at);
      for (; at < last + width; at += W) sums[1] += f(at) * tail_;
    } else {
      for (int gate = 0; gate < groups_.gates; ++gate) {
        if (group(gate) != g) continue;
        std::int64_t at = std::int64_t{gate} * W;
        for (; at + width < last; at += 2 * width) {
          sums[0] += f(at);
          sums[1] += f(at + width);
        }
        for (; at < last; at += width) sums[2] += f(at);
        sums[3] += f(at) * tail_;
      }
    }
    const Pack<T> all = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    T total{0};
    for (int lane = 0; lane < W; ++lane) total += all[lane];
    return total;
  }

  /// f(group, first element, 1 where a unit exists) for every pack of the row.
  template <class F>
  void visit(F&& f) const noexcept {
    const Pack<T> all = broadcast(T{1});
    for (std::int64_t block = 0; block < blocks_; ++block) {
      for (int gate = 0; gate < groups_.gates; ++gate) {
        f(group(gate), (block * groups_.gates + gate) * kLanes<T>, block + 1 == blocks_ ? tail_ : all);
      }
    }
  }

  NormGroups groups_;
  std::int64_t blocks_;
  std::size_t count_;  ///< groups in use
  std::array<T, kMaxNormGroups> size_{};
  Pack<T> tail_{};
};

LSTMCORE_END_NAMESPACE
