// A forest in the order in which it is computed.
//
// Rows of all matrices of a pass are the nodes sorted by their height above the leaves: all nodes of a height, a level,
// lie together and depend on lower levels only. Leaves come first. Within a level, nodes that have a parent come before
// roots, so that what belongs to edges lies together too; within either, the user's order.
#pragma once

#include "base/namespace.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

LSTMCORE_BEGIN_NAMESPACE

struct TreeLevel {
  std::int64_t begin = 0;       ///< first row
  std::int64_t roots = 0;       ///< first row without a parent
  std::int64_t end = 0;         ///< past the last row
  std::int64_t first_edge = 0;  ///< edges to parents, counted over the levels below

  std::int64_t rows() const noexcept { return end - begin; }
};

/// A child as its parent sees it.
struct TreeChild {
  std::int64_t row = 0;
  std::int64_t slot = 0;  ///< where its forget gate lies: its edge, or with positions internal(parent)·A + position
};

class TreeLayout {
 public:
  /// A forest that api/checks found right. arity: 0 where children have no positions. positions: null for the order of
  /// siblings.
  void assign(const std::int64_t* parents, const std::int64_t* positions, std::int64_t count, std::int64_t arity) {
    arity_ = arity;
    find_heights(parents, count);
    sort_rows(parents, count);
    link_children(parents, positions, count);
  }

  std::int64_t rows() const noexcept { return static_cast<std::int64_t>(node_.size()); }
  std::int64_t leaves() const noexcept { return levels_.front().end; }
  std::int64_t internals() const noexcept { return rows() - leaves(); }
  std::int64_t edges() const noexcept {
    return levels_.back().first_edge + levels_.back().roots - levels_.back().begin;
  }
  /// Rows of forget gates.
  std::int64_t slots() const noexcept { return arity_ > 0 ? internals() * arity_ : edges(); }

  std::int64_t levels() const noexcept { return static_cast<std::int64_t>(levels_.size()); }
  const TreeLevel& level(std::int64_t index) const noexcept { return levels_[static_cast<std::size_t>(index)]; }

  /// The user's index of a row.
  std::int64_t node(std::int64_t row) const noexcept { return node_[static_cast<std::size_t>(row)]; }
  /// Number among the nodes that have children.
  std::int64_t internal(std::int64_t row) const noexcept { return row - leaves(); }
  /// Row of the parent; only for rows that have one.
  std::int64_t parent(std::int64_t row) const noexcept { return parent_[static_cast<std::size_t>(row)]; }

  const TreeChild* children_begin(std::int64_t row) const noexcept { return child_.data() + first(internal(row)); }
  const TreeChild* children_end(std::int64_t row) const noexcept { return child_.data() + first(internal(row) + 1); }

 private:
  static std::size_t at(std::int64_t index) noexcept { return static_cast<std::size_t>(index); }
  std::int64_t first(std::int64_t internal) const noexcept { return first_child_[at(internal)]; }

  /// From the leaves up, each node once its last child is known (Kahn 1962).
  void find_heights(const std::int64_t* parents, std::int64_t count) {
    height_.assign(at(count), 0);
    waiting_.assign(at(count), 0);
    for (std::int64_t m = 0; m < count; ++m) {
      if (parents[m] >= 0) ++waiting_[at(parents[m])];
    }
    for (std::int64_t leaf = 0; leaf < count; ++leaf) {
      if (waiting_[at(leaf)] != 0) continue;
      // `waiting_` of a finished node is −1, so that the climb meets each node as the last of its siblings only.
      for (std::int64_t m = leaf; waiting_[at(m)] == 0;) {
        waiting_[at(m)] = -1;
        const std::int64_t parent = parents[m];
        if (parent < 0) break;
        height_[at(parent)] = std::max(height_[at(parent)], height_[at(m)] + 1);
        --waiting_[at(parent)];
        m = parent;
      }
    }
  }

  void sort_rows(const std::int64_t* parents, std::int64_t count) {
    const std::int64_t levels = *std::max_element(height_.begin(), height_.end()) + 1;
    const auto bucket = [&](std::int64_t m) { return at(2 * height_[at(m)] + (parents[m] < 0 ? 1 : 0)); };
    next_.assign(at(2 * levels), 0);
    for (std::int64_t m = 0; m < count; ++m) ++next_[bucket(m)];
    levels_.resize(at(levels));
    std::int64_t row = 0;
    std::int64_t edge = 0;
    for (std::int64_t l = 0; l < levels; ++l) {
      TreeLevel& level = levels_[at(l)];
      const std::int64_t inner = next_[at(2 * l)];
      const std::int64_t roots = next_[at(2 * l + 1)];
      level = {row, row + inner, row + inner + roots, edge};
      next_[at(2 * l)] = level.begin;
      next_[at(2 * l + 1)] = level.roots;
      row = level.end;
      edge += inner;
    }
    node_.resize(at(count));
    row_.resize(at(count));
    for (std::int64_t m = 0; m < count; ++m) {
      const std::int64_t to = next_[bucket(m)]++;
      node_[at(to)] = m;
      row_[at(m)] = to;
    }
    parent_.resize(at(count));
    for (std::int64_t m = 0; m < count; ++m) parent_[at(row_[at(m)])] = parents[m] < 0 ? -1 : row_[at(parents[m])];
  }

  void link_children(const std::int64_t* parents, const std::int64_t* positions, std::int64_t count) {
    first_child_.assign(at(internals() + 1), 0);
    for (std::int64_t m = 0; m < count; ++m) {
      if (parents[m] >= 0) ++first_child_[at(internal(row_[at(parents[m])]) + 1)];
    }
    for (std::size_t k = 1; k < first_child_.size(); ++k) first_child_[k] += first_child_[k - 1];
    child_.resize(at(edges()));
    next_.assign(first_child_.begin(), first_child_.end() - 1);
    for (std::int64_t m = 0; m < count; ++m) {
      if (parents[m] < 0) continue;
      const std::int64_t row = row_[at(m)];
      const std::int64_t above = internal(row_[at(parents[m])]);
      const std::int64_t place = next_[at(above)]++;
      std::int64_t slot = 0;
      if (arity_ > 0) {
        slot = above * arity_ + (positions != nullptr ? positions[m] : place - first(above));
      } else {
        const TreeLevel& level = levels_[at(height_[at(m)])];
        slot = level.first_edge + row - level.begin;
      }
      child_[at(place)] = {row, slot};
    }
    if (arity_ == 0 || positions == nullptr) return;
    // By position, so that sums over children do not depend on the order of the nodes.
    for (std::int64_t k = 0; k < internals(); ++k) {
      std::sort(child_.begin() + first(k), child_.begin() + first(k + 1),
                [](const TreeChild& a, const TreeChild& b) { return a.slot < b.slot; });
    }
  }

  std::int64_t arity_ = 0;
  std::vector<TreeLevel> levels_;
  std::vector<std::int64_t> node_, row_, parent_;
  std::vector<std::int64_t> first_child_;  ///< by internal number, and one past the last
  std::vector<TreeChild> child_;
  std::vector<std::int64_t> height_, waiting_, next_;  ///< scratch
};

LSTMCORE_END_NAMESPACE
