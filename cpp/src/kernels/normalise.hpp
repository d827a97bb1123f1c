// Layer normalisation (Ba, Kiros & Hinton 2016) of rows in block order: forward and, below, backward.
#pragma once

#include "kernels/packing.hpp"

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
  explicit LayerNorm(const NormGroups& groups) noexcept : groups_(groups), blocks_(blocks_of<T>(groups.hidden)) {
    for (int gate = 0; gate < groups.gates; ++gate) {
      size_[group(gate)] += static_cast<T>(groups.hidden);
    }
    const std::int64_t last = groups.hidden - (blocks_ - 1) * kLanes<T>;
    for (int lane = 0; lane < kLanes<T>; ++lane) tail_[lane] = lane < last ? T{1} : T{0};
  }

  /// v → (v − mean) / √(variance + ε), zeros in the padding; inverse_deviation: one a group, for backward.
  void normalise(T* v, T* inverse_deviation) const noexcept {
    Sums mean{};
    visit([&](std::size_t g, std::int64_t at, Pack<T>) { mean.add(g, load(v + at)); });
    mean.divide(size_);
    Sums variance{};
    visit([&](std::size_t g, std::int64_t at, Pack<T> present) {
      const Pack<T> d = (load(v + at) - mean.total[g]) * present;
      variance.add(g, d * d);
      store(v + at, d);
    });
    variance.divide(size_);
    std::array<T, kMaxNormGroups> factor{};
    for (std::size_t g = 0; g < kMaxNormGroups; ++g) {
      factor[g] = T{1} / std::sqrt(variance.total[g] + static_cast<T>(kNormEpsilon));
      inverse_deviation[g] = factor[g];
    }
    visit([&](std::size_t g, std::int64_t at, Pack<T>) { store(v + at, load(v + at) * factor[g]); });
  }

  /// normalised: what normalise() left. dy: gradient of gain ⊙ normalised. dx: receives the gradient of what was
  /// normalised; may be dy or normalised itself.
  void backward(const T* normalised, const T* inverse_deviation, const T* gain, const T* dy, T* dx) const noexcept {
    Sums mean{};
    Sums projection{};
    visit([&](std::size_t g, std::int64_t at, Pack<T> present) {
      const Pack<T> d = load(dy + at) * load(gain + at) * present;
      mean.add(g, d);
      projection.add(g, d * load(normalised + at));
    });
    mean.divide(size_);
    projection.divide(size_);
    visit([&](std::size_t g, std::int64_t at, Pack<T> present) {
      const Pack<T> d = load(dy + at) * load(gain + at);
      store(dx + at, (d - mean.total[g] - load(normalised + at) * projection.total[g]) * inverse_deviation[g] * present);
    });
  }

  /// y = gain ⊙ v (+ shift) (+ y).
  void scale(const T* v, const T* gain, const T* shift, bool add, T* y) const noexcept {
    const std::int64_t width = blocks_ * groups_.gates * kLanes<T>;
    for (std::int64_t at = 0; at < width; at += kLanes<T>) {
      Pack<T> value = load(gain + at) * load(v + at);
      if (shift != nullptr) value += load(shift + at);
      if (add) value += load(y + at);
      store(y + at, value);
    }
  }

 private:
  struct Sums {
    std::array<Pack<T>, kMaxNormGroups> lanes;
    std::array<T, kMaxNormGroups> total;

    void add(std::size_t g, Pack<T> v) noexcept { lanes[g] += v; }
    void divide(const std::array<T, kMaxNormGroups>& size) noexcept {
      for (std::size_t g = 0; g < kMaxNormGroups; ++g) {
        T sum{0};
        for (int lane = 0; lane < kLanes<T>; ++lane) sum += lanes[g][lane];
        total[g] = size[g] > 0 ? sum / size[g] : T{0};
      }
    }
  };

  std::size_t group(int gate) const noexcept {
    return static_cast<std::size_t>(groups_.group[static_cast<std::size_t>(gate) & 3U]);  // at most 4 gates
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
  std::array<T, kMaxNormGroups> size_{};
  Pack<T> tail_{};
};

LSTMCORE_END_NAMESPACE
