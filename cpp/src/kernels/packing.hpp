// Weights and operands rearranged for the register tile.
//
// A packed matrix B[depth × columns] is cut into panels of a few packs of columns; within a panel, row k of all its
// columns lies together: panel[k][pack][lane]. Missing columns of the last pack are zero.
//
// Gate order. The user's rows of W, R and b are [gate][unit]. Inside the engine the pre-activations of one pack of
// units lie side by side for all gates, [block of W units][gate][lane], so that the pointwise step of a block finds its
// gates together.
#pragma once

#include "kernels/tile.hpp"

#include <algorithm>
#include <cstring>
#include <type_traits>

LSTMCORE_BEGIN_NAMESPACE

template <class T>
constexpr std::int64_t blocks_of(std::int64_t count) noexcept {
  return (count + kLanes<T> - 1) / kLanes<T>;
}
/// `count` rounded up to whole packs.
template <class T>
constexpr std::int64_t padded(std::int64_t count) noexcept {
  return blocks_of<T>(count) * kLanes<T>;
}

/// Packs Wᵀ for pre-activations: panel = one block of units, `gates` packs wide. w: [G·H, …] row-major with row stride
/// ldw, at its first column. Writes `depth` rows of block `block`; those of gates not in `present` become zero.
template <class T>
void pack_gate_panel(int gates, unsigned present, const T* w, std::int64_t ldw, std::int64_t hidden, std::int64_t depth,
                     std::int64_t block, T* panel) noexcept {
  constexpr int W = kLanes<T>;
  const std::int64_t first = block * W;
  const std::int64_t width = std::int64_t{gates} * W;
  const int lanes = static_cast<int>(std::min<std::int64_t>(W, hidden - first));
  for (int gate = 0; gate < gates; ++gate) {
    const T* rows = w + (gate * hidden + first) * ldw;
    T* out = panel + gate * W;
    if ((present >> gate & 1U) == 0) {
      for (std::int64_t k = 0; k < depth; ++k) std::fill_n(out + k * width, W, T{0});
    } else if (lanes == W) {
      for (std::int64_t k = 0; k < depth; ++k) {
        for (int lane = 0; lane < W; ++lane) out[k * width + lane] = rows[lane * ldw + k];
      }
    } else {
      for (std::int64_t k = 0; k < depth; ++k) {
        for (int lane = 0; lane < W; ++lane) out[k * width + lane] = lane < lanes ? rows[lane * ldw + k] : T{0};
      }
    }
  }
}

/// Packs W for gradients that flow back: depth = gate rows in block order of blocks [first_block, last_block), columns
/// = inputs. One panel of `packs` packs starting at column `first`; rows of missing units, and of gates not in
/// `present`, are zero.
template <class T>
void pack_back_panel(int gates, unsigned present, const T* w, std::int64_t ldw, std::int64_t hidden,
                     std::int64_t columns, std::int64_t first, int packs, std::int64_t first_block,
                     std::int64_t last_block, T* panel) noexcept {
  constexpr int W = kLanes<T>;
  const std::int64_t width = std::int64_t{packs} * W;
  const std::int64_t filled = std::min(width, columns - first);
  const auto bytes = static_cast<std::size_t>(filled) * sizeof(T);
  const auto rest = static_cast<std::size_t>(width - filled) * sizeof(T);
  for (std::int64_t block = first_block; block < last_block; ++block) {
    for (int gate = 0; gate < gates; ++gate) {
      for (int lane = 0; lane < W; ++lane) {
        const std::int64_t unit = block * W + lane;
        if (unit < hidden && (present >> gate & 1U) != 0) {
          std::memcpy(panel, w + (gate * hidden + unit) * ldw + first, bytes);
          std::memset(panel + filled, 0, rest);
        } else {
          std::memset(panel, 0, bytes + rest);
        }
        panel += width;
      }
    }
  }
}

/// Position in block order of the user's row gate·H + unit.
template <class T>
constexpr std::int64_t block_column(int gates, int gate, std::int64_t unit) noexcept {
  return (unit / kLanes<T> * gates + gate) * kLanes<T> + unit % kLanes<T>;
}

/// A vector of gate rows (bias) in block order; missing units are zero.
template <class T>
void pack_gate_vector(const T* v, int gates, std::int64_t hidden, T* out) noexcept {
  std::fill(out, out + gates * padded<T>(hidden), T{0});
  for (int gate = 0; gate < gates; ++gate) {
    for (std::int64_t unit = 0; unit < hidden; ++unit)
      out[block_column<T>(gates, gate, unit)] = v[gate * hidden + unit];
  }
}

LSTMCORE_END_NAMESPACE
