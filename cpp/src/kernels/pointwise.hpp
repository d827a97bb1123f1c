// The element-wise part of a step over a block of units and some rows; the cell is a template parameter.
#pragma once

#include "kernels/packing.hpp"

#include <array>

LSTMCORE_BEGIN_NAMESPACE

/// Rows of one matrix with their stride, in elements.
template <class T>
struct Rows {
  T* data = nullptr;
  std::int64_t stride = 0;

  T* operator[](std::int64_t row) const noexcept { return data + row * stride; }
  Rows from(std::int64_t row) const noexcept { return {data + row * stride, stride}; }
  Rows columns(std::int64_t first) const noexcept { return {data + first, stride}; }
};

/// forward of one block. gate: activations replace pre-activations. previous may equal next (state kept in place).
template <class Cell, class T>
void pointwise_forward(std::int64_t rows, Rows<T> gate, Rows<const T> h_previous,
                       const std::array<Rows<const T>, Cell::kStates>& previous,
                       const std::array<Rows<T>, Cell::kStates>& next, Rows<T> h) noexcept {
  constexpr int W = kLanes<T>;
  for (std::int64_t row = 0; row < rows; ++row) {
    CellForward<Pack<T>, Cell::kGates, Cell::kStates> s;
    for (std::size_t g = 0; g < Cell::kGates; ++g) s.gate[g] = load(gate[row] + g * W);
    s.h_previous = load(h_previous[row]);
    for (std::size_t k = 0; k < Cell::kStates; ++k) s.previous[k] = load(previous[k][row]);
    Cell::forward(s);
    for (std::size_t g = 0; g < Cell::kGates; ++g) store(gate[row] + g * W, s.gate[g]);
    for (std::size_t k = 0; k < Cell::kStates; ++k) store(next[k][row], s.next[k]);
    store(h[row], s.h);
  }
}

/// backward of one block. gate: gradients of pre-activations replace activations. dh: from the layer above (may be
/// null) plus dh_carried, which then receives the direct path to h of the step before; d_state is updated in place.
template <class Cell, class T>
void pointwise_backward(std::int64_t rows, Rows<T> gate, Rows<const T> h_previous, Rows<const T> h,
                        const std::array<Rows<const T>, Cell::kStates>& previous,
                        const std::array<Rows<const T>, Cell::kStates>& next, Rows<const T> dh, Rows<T> dh_carried,
                        const std::array<Rows<T>, Cell::kStates>& d_state) noexcept {
  constexpr int W = kLanes<T>;
  for (std::int64_t row = 0; row < rows; ++row) {
    CellBackward<Pack<T>, Cell::kGates, Cell::kStates> s;
    for (std::size_t g = 0; g < Cell::kGates; ++g) s.gate[g] = load(gate[row] + g * W);
    s.h_previous = load(h_previous[row]);
    s.h = load(h[row]);
    for (std::size_t k = 0; k < Cell::kStates; ++k) {
      s.previous[k] = load(previous[k][row]);
      s.next[k] = load(next[k][row]);
      s.d_state[k] = load(d_state[k][row]);
    }
    s.dh = load(dh_carried[row]);
    if (dh.data != nullptr) s.dh += load(dh[row]);
    Cell::backward(s);
    for (std::size_t g = 0; g < Cell::kGates; ++g) store(gate[row] + g * W, s.d_gate[g]);
    for (std::size_t k = 0; k < Cell::kStates; ++k) store(d_state[k][row], s.d_state[k]);
    store(dh_carried[row], s.dh_previous);
  }
}

LSTMCORE_END_NAMESPACE
