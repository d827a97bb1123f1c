// The element-wise part of a step over a block of units and some rows.
//
// The cell is a template parameter of the functions here, and of nothing above them: drivers reach them through a table
// of function pointers, one call for a block of units, so that a new cell compiles in a second and not in a minute. The
// call costs about 2 ns where the block takes 30 or more.
#pragma once

#include "kernels/packing.hpp"

#include <array>

LSTMCORE_BEGIN_NAMESPACE

// cells/cell.hpp; cells and kernels do not include each other.
template <class V, class Cell>
struct CellForward;
template <class V, class Cell>
struct CellBackward;

inline constexpr std::size_t kMaxGates = 4;
inline constexpr std::size_t kMaxStates = 4;
inline constexpr std::size_t kMaxVectors = 3;

/// Rows of one matrix with their stride, in elements.
template <class T>
struct Rows {
  T* data = nullptr;
  std::int64_t stride = 0;

  T* operator[](std::int64_t row) const noexcept { return data + row * stride; }
  Rows from(std::int64_t row) const noexcept { return {data + row * stride, stride}; }
  Rows columns(std::int64_t first) const noexcept { return {data + first, stride}; }
  Rows<const T> read() const noexcept { return {data, stride}; }
};

/// Rows that may be absent: an absent one stays absent wherever it is cut.
template <class T>
Rows<T> cut(Rows<T> rows, std::int64_t row, std::int64_t column) noexcept {
  return rows.data == nullptr ? rows : rows.from(row).columns(column);
}

/// What one call for one block reads and writes; all rows begin at the block's first lane. Names as in cells/cell.hpp.
template <class T>
struct ForwardBlock {
  std::int64_t rows;
  Rows<T> gate;             ///< G packs side by side: pre-activations, then what backward wants
  Rows<const T> recurrent;  ///< the same for R·h₋ of separate cells
  Rows<const T> vector;     ///< [vectors][W]; stride 0 where all rows share them
  Rows<const T> h_previous, h_fed;
  std::array<Rows<const T>, kMaxStates> previous;
  std::array<Rows<T>, kMaxStates> next;  ///< may be `previous`: state kept in place
  Rows<const T> keep;                    ///< absent: 1
  Rows<T> h;
};

template <class T>
struct BackwardBlock {
  std::int64_t rows;
  Rows<T> gate;       ///< in: what forward left; out: gradients of pre-activations
  Rows<T> recurrent;  ///< separate cells: in as in forward; out: their gradients
  Rows<const T> vector;
  Rows<const T> h_previous, h_fed, h;
  std::array<Rows<const T>, kMaxStates> previous, next;
  Rows<const T> keep;
  Rows<const T> d_out;                      ///< gradient of h from above; may be absent
  Rows<T> dh;                               ///< in: the rest of the gradient of h; out: direct path to h₋
  Rows<T> dh_fed;                           ///< out: element-wise path to what enters R; absent: added to dh
  std::array<Rows<T>, kMaxStates> d_state;  ///< in: of next; out: of previous
};

template <class Cell, class T>
void pointwise_forward(const ForwardBlock<T>& block) noexcept {
  constexpr int W = kLanes<T>;
  for (std::int64_t row = 0; row < block.rows; ++row) {
    CellForward<Pack<T>, Cell> s;
    for (std::size_t g = 0; g < Cell::kGates; ++g) {
      s.gate[g] = load(block.gate[row] + g * W);
      if constexpr (Cell::kSeparate) s.recurrent[g] = load(block.recurrent[row] + g * W);
    }
    for (std::size_t k = 0; k < Cell::kVectors; ++k) s.vector[k] = load(block.vector[row] + k * W);
    s.h_previous = load(block.h_previous[row]);
    s.h_fed = load(block.h_fed[row]);
    for (std::size_t k = 0; k < Cell::kStates; ++k) s.previous[k] = load(block.previous[k][row]);
    s.keep = block.keep.data == nullptr ? constant<Pack<T>>(1) : load(block.keep[row]);
    Cell::forward(s);
    for (std::size_t g = 0; g < Cell::kGates; ++g) store(block.gate[row] + g * W, s.gate[g]);
    for (std::size_t k = 0; k < Cell::kStates; ++k) store(block.next[k][row], s.next[k]);
    if constexpr (!Cell::kNormalisedState) store(block.h[row], s.h);
  }
}

template <class Cell, class T>
void pointwise_backward(const BackwardBlock<T>& block) noexcept {
  constexpr int W = kLanes<T>;
  for (std::int64_t row = 0; row < block.rows; ++row) {
    CellBackward<Pack<T>, Cell> s;
    for (std::size_t g = 0; g < Cell::kGates; ++g) {
      s.gate[g] = load(block.gate[row] + g * W);
      if constexpr (Cell::kSeparate) s.recurrent[g] = load(block.recurrent[row] + g * W);
    }
    for (std::size_t k = 0; k < Cell::kVectors; ++k) s.vector[k] = load(block.vector[row] + k * W);
    s.h_previous = load(block.h_previous[row]);
    s.h_fed = load(block.h_fed[row]);
    s.h = load(block.h[row]);
    for (std::size_t k = 0; k < Cell::kStates; ++k) {
      s.previous[k] = load(block.previous[k][row]);
      s.next[k] = load(block.next[k][row]);
      s.d_state[k] = load(block.d_state[k][row]);
    }
    s.keep = block.keep.data == nullptr ? constant<Pack<T>>(1) : load(block.keep[row]);
    s.dh = load(block.dh[row]);
    if (block.d_out.data != nullptr) s.dh += load(block.d_out[row]);
    Cell::backward(s);
    for (std::size_t g = 0; g < Cell::kGates; ++g) {
      store(block.gate[row] + g * W, s.d_gate[g]);
      if constexpr (Cell::kSeparate) store(block.recurrent[row] + g * W, s.d_recurrent[g]);
    }
    for (std::size_t k = 0; k < Cell::kStates; ++k) store(block.d_state[k][row], s.d_state[k]);
    if (block.dh_fed.data == nullptr) {
      store(block.dh[row], s.dh_previous + s.dh_fed);
    } else {
      store(block.dh[row], s.dh_previous);
      store(block.dh_fed[row], s.dh_fed);
    }
  }
}

/// First part of a reset-before step: gate r → activation, fed = r ⊙ h_fed.
template <class Cell, class T>
void pointwise_reset(std::int64_t rows, Rows<T> r, Rows<const T> h_fed, Rows<T> fed) noexcept {
  for (std::int64_t row = 0; row < rows; ++row) {
    Pack<T> gate = load(r[row]);
    Pack<T> product;
    Cell::reset(gate, load(h_fed[row]), product);
    store(r[row], gate);
    store(fed[row], product);
  }
}

/// d_fed → gradients of r's pre-activation and of h_fed; the latter is added to dh_fed.
template <class Cell, class T>
void pointwise_reset_backward(std::int64_t rows, Rows<T> r, Rows<const T> h_fed, Rows<const T> d_fed,
                              Rows<T> dh_fed) noexcept {
  for (std::int64_t row = 0; row < rows; ++row) {
    Pack<T> gate = load(r[row]);
    Pack<T> d;
    Cell::reset_backward(gate, load(h_fed[row]), load(d_fed[row]), d);
    store(r[row], gate);
    store(dh_fed[row], load(dh_fed[row]) + d);
  }
}

/// h from the output gate and the normalised state.
template <class Cell, class T>
void pointwise_output(std::int64_t rows, Rows<const T> o, Rows<const T> state, Rows<T> h) noexcept {
  for (std::int64_t row = 0; row < rows; ++row) store(h[row], Cell::output_forward(load(o[row]), load(state[row])));
}

/// dh → gradient of the output gate's activation, in its place; state → gradient of the normalised state, in its place.
template <class Cell, class T>
void pointwise_output_backward(std::int64_t rows, Rows<const T> o, Rows<T> state, Rows<T> dh) noexcept {
  for (std::int64_t row = 0; row < rows; ++row) {
    Pack<T> d_o;
    Pack<T> d_c;
    Cell::output_backward(load(o[row]), load(state[row]), load(dh[row]), d_o, d_c);
    store(dh[row], d_o);
    store(state[row], d_c);
  }
}

/// A cell's functions, as drivers call them; null where the cell has no such part.
template <class T>
struct CellKernels {
  void (*forward)(const ForwardBlock<T>&) noexcept = nullptr;
  void (*backward)(const BackwardBlock<T>&) noexcept = nullptr;
  void (*reset)(std::int64_t, Rows<T>, Rows<const T>, Rows<T>) noexcept = nullptr;
  void (*reset_backward)(std::int64_t, Rows<T>, Rows<const T>, Rows<const T>, Rows<T>) noexcept = nullptr;
  void (*output)(std::int64_t, Rows<const T>, Rows<const T>, Rows<T>) noexcept = nullptr;
  void (*output_backward)(std::int64_t, Rows<const T>, Rows<T>, Rows<T>) noexcept = nullptr;
};

template <class Cell, class T>
CellKernels<T> cell_kernels() noexcept {
  CellKernels<T> kernels;
  kernels.forward = &pointwise_forward<Cell, T>;
  kernels.backward = &pointwise_backward<Cell, T>;
  if constexpr (Cell::kResetBefore) {
    kernels.reset = &pointwise_reset<Cell, T>;
    kernels.reset_backward = &pointwise_reset_backward<Cell, T>;
  }
  if constexpr (Cell::kNormalisedState) {
    kernels.output = &pointwise_output<Cell, T>;
    kernels.output_backward = &pointwise_output_backward<Cell, T>;
  }
  return kernels;
}

LSTMCORE_END_NAMESPACE
