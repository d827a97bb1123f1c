// A ragged batch as the engine sees it.
//
// Sequences are sorted by falling length. Row (t, n) of every per-step matrix is offset[t] + n, where n < active[t]
// counts the sequences that are longer than t: no row exists for padding. Both directions share this order. The reverse
// direction walks t downwards and finds sequences joining as t falls below their length, so it never meets padding
// either.
#pragma once

#include "base/arena.hpp"

#include <lstmcore/types.hpp>

#include <algorithm>
#include <numeric>
#include <vector>

LSTMCORE_BEGIN_NAMESPACE

class BatchLayout {
 public:
  void assign(const std::int64_t* lengths, std::int64_t count) {
    order_.resize(static_cast<std::size_t>(count));
    std::iota(order_.begin(), order_.end(), std::int64_t{0});
    const bool sorted = std::is_sorted(lengths, lengths + count, std::greater<>());
    if (!sorted) {
      std::stable_sort(order_.begin(), order_.end(),
                       [lengths](std::int64_t a, std::int64_t b) { return lengths[a] > lengths[b]; });
    }
    lengths_.resize(order_.size());
    for (std::size_t n = 0; n < order_.size(); ++n) lengths_[n] = lengths[order_[n]];
    const auto longest = static_cast<std::size_t>(lengths_.front());
    active_.resize(longest);
    offset_.resize(longest + 1);
    std::size_t n = order_.size();
    std::int64_t rows = 0;
    for (std::size_t t = 0; t < longest; ++t) {
      while (lengths_[n - 1] <= static_cast<std::int64_t>(t)) --n;
      active_[t] = static_cast<std::int64_t>(n);
      offset_[t] = rows;
      rows += active_[t];
    }
    offset_[longest] = rows;
  }

  std::int64_t sequences() const noexcept { return static_cast<std::int64_t>(order_.size()); }
  std::int64_t steps() const noexcept { return static_cast<std::int64_t>(active_.size()); }
  std::int64_t rows() const noexcept { return offset_.back(); }
  /// Position in the caller's batch of sorted sequence n.
  std::int64_t original(std::int64_t n) const noexcept { return order_[static_cast<std::size_t>(n)]; }
  std::int64_t length(std::int64_t n) const noexcept { return lengths_[static_cast<std::size_t>(n)]; }
  std::int64_t active(std::int64_t t) const noexcept { return active_[static_cast<std::size_t>(t)]; }
  std::int64_t offset(std::int64_t t) const noexcept { return offset_[static_cast<std::size_t>(t)]; }
  std::int64_t row(std::int64_t t, std::int64_t n) const noexcept { return offset(t) + n; }

  /// First sequence of share `part` of `parts`, so that shares have about equal numbers of steps.
  std::int64_t boundary(int part, int parts) const noexcept {
    if (part <= 0) return 0;
    if (part >= parts) return sequences();
    const std::int64_t target = rows() * part / parts;
    std::int64_t sum = 0;
    std::int64_t n = 0;
    while (n < sequences() && sum + length(n) / 2 < target) sum += length(n++);
    return n;
  }

 private:
  std::vector<std::int64_t> order_, lengths_, active_, offset_;
};

LSTMCORE_END_NAMESPACE
