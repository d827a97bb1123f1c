// A step whose parts need whole rows of units: layer normalisation, projection, reset before the product, zoneout, and
// dropout of what enters R. The other cells and settings run block by block, see sequence/direction.hpp.
//
//   fed ──R──▶ (LN) ──▶ cell ──▶ states (zoneout) ──▶ (LN) ──▶ h (projection, zoneout) ──▶ fed (mask)
#pragma once

#include "sequence/pass.hpp"

LSTMCORE_BEGIN_NAMESPACE

template <class T>
class GeneralStep {
 public:
  using Pass = DirectionPass<T>;
  static constexpr int W = kLanes<T>;

  /// What every cell reads of one block.
  static void fill_block(const Pass& pass, std::int64_t offset, Rows<T> gates, const Source<T>& from, std::int64_t n,
                         std::int64_t b, ForwardBlock<T>& block) noexcept {
    const CellSpec& cell = pass.shape->cell;
    block.gate = gates.columns(b * pass.shape->gates * W);
    block.vector = {pass.weights.vectors + b * static_cast<std::int64_t>(cell.vectors) * W, 0};
    block.h_previous = previous(pass, from.h, n, b);
    block.h_fed = previous(pass, from.fed, n, b);
    for (std::size_t s = 0; s < cell.states; ++s) block.previous[s] = from.state[s].from(n).columns(b * W);
    block.keep = cut(pass.keep, offset + n, b * W);
  }
  static void fill_block(const Pass& pass, std::int64_t offset, const Source<T>& from, std::int64_t n, std::int64_t b,
                         BackwardBlock<T>& block) noexcept {
    const CellSpec& cell = pass.shape->cell;
    const std::int64_t width = std::int64_t{pass.shape->gates} * W;
    block.gate = pass.gates.from(offset + n).columns(b * width);
    block.recurrent = cut(pass.recurrent, offset + n, b * width);
    block.vector = {pass.weights.vectors + b * static_cast<std::int64_t>(cell.vectors) * W, 0};
    block.h_previous = previous(pass, from.h, n, b);
    block.h_fed = previous(pass, from.fed, n, b);
    block.h = h_of_cell(pass, offset, n).columns(b * W).read();
    for (std::size_t s = 0; s < cell.states; ++s) {
      block.previous[s] = from.state[s].from(n).columns(b * W);
      block.next[s] =
          (pass.fresh[s].data != nullptr ? pass.fresh[s] : pass.record[s]).from(offset + n).columns(b * W).read();
      block.d_state[s] = pass.d_state[s].from(n).columns(b * W);
    }
    block.keep = cut(pass.keep, offset + n, b * W);
  }

  /// Makes what fill_block() filled in for the first of several blocks of one sequence mean all of them, a block a row.
  template <class Block>
  static void rows_are_blocks(const StackShape& shape, Block& block) noexcept {
    const std::int64_t width = std::int64_t{shape.gates} * W;
    block.gate.stride = block.recurrent.stride = width;
    block.vector.stride = static_cast<std::int64_t>(shape.cell.vectors) * W;
    block.h_previous.stride = block.h_fed.stride = block.h.stride = block.keep.stride = W;
    for (std::size_t s = 0; s < shape.cell.states; ++s) block.previous[s].stride = W;
  }

  /// LN(W x): rows [first, last) of the chunk that begins at row `base`.
  static void normalise_input(const Pass& pass, std::int64_t base, std::int64_t first, std::int64_t last) noexcept {
    const LayerNorm<T> norm(gate_groups(pass));
    const Rows<T> gates = pass.gates.from(pass.recording ? base : 0);
    std::array<T, kMaxNormGroups> unused{};
    for (std::int64_t row = first; row < last; ++row) {
      norm.forward(gates[row], pass.weights.gain_x, pass.weights.bias, false,
                   pass.recording ? pass.deviation_x[base + row] : unused.data(),
                   pass.recording ? pass.normal_x[base + row] : nullptr, gates[row]);
    }
  }

  /// Sequences [n, n + m) of the step that begins at row `offset`; gates: their rows.
  static void forward(const Pass& pass, std::int64_t offset, Rows<T> gates, const Source<T>& from, std::int64_t n,
                      std::int64_t m) noexcept {
    const StackShape& shape = *pass.shape;
    const CellSpec& cell = shape.cell;
    const std::int64_t blocks = blocks_of<T>(shape.hidden);
    const std::int64_t width = std::int64_t{shape.gates} * W;
    const Rows<T> recurrent = pass.at(pass.recurrent, offset, n);
    if (cell.recurrent) {
      const Rows<T> normal = pass.at(pass.normal_r, offset, n);
      const Rows<T> dest = cell.normalised ? normal : cell.separate ? recurrent : gates;
      const bool biased = cell.separate && !cell.normalised;
      const Start start = cell.normalised ? Start::zero : biased ? Start::bias : Start::sum;
      for (std::int64_t b = 0; b < blocks; ++b) {
        recurrent_product(pass, from, n, m, b,
                          pass.weights.recurrent + b * panel_rows(shape.bf16, shape.fed_width()) * width, start,
                          biased ? pass.weights.recurrent_bias + b * width : nullptr, dest.columns(b * width));
      }
      if (cell.normalised) {
        const LayerNorm<T> norm(gate_groups(pass));
        const Rows<T> deviation = pass.at(pass.deviation_r, offset, n);
        const Rows<T> to = cell.separate ? recurrent : gates;
        for (std::int64_t i = 0; i < m; ++i) {
          norm.forward(normal[i], pass.weights.gain_r, pass.weights.recurrent_bias, !cell.separate, deviation[i],
                       normal[i], to[i]);
        }
      }
      if (cell.reset_before) reset(pass, offset, gates, from, n, m);
    }
    const Rows<T> h = h_of_cell(pass, offset, n);
    ForwardBlock<T> block{};
    block.rows = m;
    for (std::int64_t b = 0; b < blocks; ++b) {
      fill_block(pass, offset, gates, from, n, b, block);
      block.recurrent = cut(recurrent, 0, b * width).read();
      for (std::size_t s = 0; s < cell.states; ++s) block.next[s] = state_of_cell(pass, s, offset, n).columns(b * W);
      block.h = h.columns(b * W);
      pass.kernels->forward(block);
    }
    if (cell.normalised_state) output(pass, offset, gates, n, m, h);
    if (pass.hold_state.data != nullptr) {
      for (std::size_t s = 0; s < cell.states; ++s) {
        hold(m, padded<T>(shape.hidden), pass.hold_state.from(offset + n), from.state[s].from(n),
             pass.at(pass.fresh[s], offset, n), pass.next_state(s, offset, n));
      }
    }
    finish(pass, offset, from, n, m);
  }

  /// The same backward, to gradients of pre-activations in place of the gates, and of h₋ and previous states.
  static void backward(const Pass& pass, std::int64_t offset, const Source<T>& from, std::int64_t n,
                       std::int64_t m) noexcept {
    const StackShape& shape = *pass.shape;
    const CellSpec& cell = shape.cell;
    const std::int64_t hp = padded<T>(shape.hidden);
    const std::int64_t blocks = blocks_of<T>(shape.hidden);
    start_back(pass, offset, n, m);
    if (pass.hold_state.data != nullptr) {
      for (std::size_t s = 0; s < cell.states; ++s) {
        unhold(m, hp, pass.hold_state.from(offset + n), pass.d_state[s].from(n), pass.d_held[s].from(n));
      }
    }
    const Rows<T> d_units = pass.d_units.from(n);
    if (cell.normalised_state) output_back(pass, offset, n, m);
    const bool masked = pass.fed_mask.data != nullptr;
    BackwardBlock<T> block{};
    block.rows = m;
    for (std::int64_t b = 0; b < blocks; ++b) {
      fill_block(pass, offset, from, n, b, block);
      block.dh = d_units.columns(b * W);
      if (masked && cell.projection == 0) block.dh_fed = pass.dh_fed.from(n).columns(b * W);
      pass.kernels->backward(block);
    }
    if (pass.hold_state.data != nullptr) {
      for (std::size_t s = 0; s < cell.states; ++s) add(m, hp, pass.d_held[s].from(n).read(), pass.d_state[s].from(n));
    }
    // Projected cells have no direct path from h₋; pass.dh holds what zoneout passes on, or zeros.
    if (cell.projection == 0) add(m, hp, d_units.read(), pass.dh.from(n));
    const Rows<T> d_fed = masked ? pass.dh_fed : pass.dh;
    if (cell.reset_before) reset_back(pass, offset, from, n, m, d_fed);
    round_gradients(pass, offset + n, m, 0, blocks);
    if (pass.back.recurrent.data == nullptr) return;
    Rows<const T> d = (cell.separate ? pass.recurrent : pass.gates).from(offset + n).read();
    if (cell.normalised) {
      const LayerNorm<T> norm(gate_groups(pass));
      for (std::int64_t i = 0; i < m; ++i) {
        norm.backward(pass.normal_r[offset + n + i], pass.deviation_r[offset + n + i], pass.weights.gain_r, d[i],
                      pass.d_recurrent[n + i]);
        if (shape.bf16) bf16::round_row(pass.d_recurrent[n + i], pass.gate_width(), pass.d_recurrent[n + i]);
      }
      d = pass.d_recurrent.from(n).read();
    }
    recurrent_gradient(pass, d, pass.back.recurrent, n, m, 0, pass.back.recurrent.count(), d_fed);
  }

  static NormGroups gate_groups(const Pass& pass) noexcept {
    return {pass.shape->gates, pass.shape->cell.norm_groups, pass.shape->hidden};
  }
  static NormGroups state_group(const Pass& pass) noexcept { return {1, {}, pass.shape->hidden}; }

 private:
  /// h₋ of one block; cells whose h is projected do not read it, and it may be narrower than the block lies.
  static Rows<const T> previous(const Pass& pass, Rows<const T> h, std::int64_t n, std::int64_t b) noexcept {
    return h.from(n).columns(pass.shape->cell.projection > 0 ? 0 : b * W);
  }

  /// Where the cell itself writes h.
  static Rows<T> h_of_cell(const Pass& pass, std::int64_t offset, std::int64_t n) noexcept {
    if (pass.shape->cell.projection > 0) return pass.at(pass.units, offset, n);
    return pass.hold_h.data != nullptr ? pass.at(pass.fresh_h, offset, n) : pass.out.from(offset + n);
  }
  static Rows<T> state_of_cell(const Pass& pass, std::size_t s, std::int64_t offset, std::int64_t n) noexcept {
    return pass.hold_state.data != nullptr ? pass.at(pass.fresh[s], offset, n) : pass.next_state(s, offset, n);
  }

  /// h₋ where r acts on it: as it enters R, but rounded only after r; under a mask it is rounded already.
  static Rows<const T> reset_reads(const Pass& pass, const Source<T>& from) noexcept {
    return pass.fed_mask.data != nullptr ? from.fed : from.h;
  }

  /// r, then R_n (r ⊙ h₋) into the pre-activation of n.
  static void reset(const Pass& pass, std::int64_t offset, Rows<T> gates, const Source<T>& from, std::int64_t n,
                    std::int64_t m) noexcept {
    const StackShape& shape = *pass.shape;
    const std::int64_t width = std::int64_t{shape.gates} * W;
    const std::int64_t blocks = blocks_of<T>(shape.hidden);
    const Rows<T> fed = pass.at(pass.reset_fed, offset, n);
    const Rows<const T> h = reset_reads(pass, from).from(n);
    for (std::int64_t b = 0; b < blocks; ++b) {
      pass.kernels->reset(m, gates.columns(b * width), h.columns(b * W), fed.columns(b * W));
    }
    if (shape.bf16) round_fed(m, padded<T>(shape.hidden), fed.read(), fed);
    const std::int64_t distance = panel_rows(shape.bf16, shape.fed_width()) * width;
    for (std::int64_t b = 0; b < blocks; ++b) {
      weight_product<T>(shape.bf16, 1, Start::sum, m, shape.output, fed.data, fed.stride,
                        pass.weights.recurrent_last + b * distance, gates.data + b * width + (shape.gates - 1) * W,
                        gates.stride);
    }
  }

  static void reset_back(const Pass& pass, std::int64_t offset, const Source<T>& from, std::int64_t n, std::int64_t m,
                         Rows<T> d_fed) noexcept {
    const std::int64_t blocks = blocks_of<T>(pass.shape->hidden);
    const std::int64_t width = std::int64_t{pass.shape->gates} * W;
    const Rows<T> gates = pass.gates.from(offset + n);
    const Rows<T> d = pass.scratch.from(n);
    const Panels<T>& back = pass.back.recurrent_last;
    if (pass.shape->bf16) {  // of r there is no gradient yet
      for (std::int64_t b = 0; b < blocks; ++b) {
        const Rows<T> last = gates.columns(b * width + (pass.shape->gates - 1) * W);
        round_fed(m, W, last.read(), last);
      }
    }
    rows_times_panels<T>(Start::zero, m, gates.data, gates.stride, back, 0, back.count(), d.data, d.stride);
    const Rows<const T> h = reset_reads(pass, from).from(n);
    for (std::int64_t b = 0; b < blocks; ++b) {
      pass.kernels->reset_backward(m, gates.columns(b * width), h.columns(b * W), d.columns(b * W).read(),
                                   d_fed.from(n).columns(b * W));
    }
  }

  /// h from the normalised state 0.
  static void output(const Pass& pass, std::int64_t offset, Rows<T> gates, std::int64_t n, std::int64_t m,
                     Rows<T> h) noexcept {
    const LayerNorm<T> norm(state_group(pass));
    const Rows<T> state = state_of_cell(pass, 0, offset, n);
    const Rows<T> normal = pass.at(pass.normal_state, offset, n);
    const Rows<T> deviation = pass.at(pass.deviation_state, offset, n);
    const Rows<T> scaled = pass.scratch.from(n);
    const std::int64_t hp = padded<T>(pass.shape->hidden);
    for (std::int64_t i = 0; i < m; ++i) {
      norm.forward(state[i], pass.weights.gain_state, pass.weights.shift_state, false, deviation[i], normal[i],
                   scaled[i]);
    }
    for (std::int64_t b = 0; b < hp / W; ++b) {
      pass.kernels->output(m, output_gate(pass, gates, b), scaled.columns(b * W).read(), h.columns(b * W));
    }
  }

  /// d_units: gradient of h → of the output gate's activation; d_state[0] += what came through the normalised state.
  static void output_back(const Pass& pass, std::int64_t offset, std::int64_t n, std::int64_t m) noexcept {
    const LayerNorm<T> norm(state_group(pass));
    const Rows<T> gates = pass.gates.from(offset + n);
    const Rows<T> d_normal = pass.d_normal_state.from(offset + n);
    const Rows<T> scratch = pass.scratch.from(n);
    const std::int64_t hp = padded<T>(pass.shape->hidden);
    for (std::int64_t i = 0; i < m; ++i) {
      norm.scale(pass.normal_state[offset + n + i], pass.weights.gain_state, pass.weights.shift_state, d_normal[i]);
    }
    for (std::int64_t b = 0; b < hp / W; ++b) {
      pass.kernels->output_backward(m, output_gate(pass, gates, b), d_normal.columns(b * W),
                                    pass.d_units.from(n).columns(b * W));
    }
    for (std::int64_t i = 0; i < m; ++i) {
      norm.backward(pass.normal_state[offset + n + i], pass.deviation_state[offset + n + i], pass.weights.gain_state,
                    d_normal[i], scratch[i]);
    }
    add(m, hp, scratch.read(), pass.d_state[0].from(n));
  }

  static Rows<const T> output_gate(const Pass& pass, Rows<T> gates, std::int64_t b) noexcept {
    return gates.columns((b * pass.shape->gates + pass.shape->cell.output_gate) * W).read();
  }

  /// Projection, zoneout of h, and what enters R in the next step.
  static void finish(const Pass& pass, std::int64_t offset, const Source<T>& from, std::int64_t n,
                     std::int64_t m) noexcept {
    const StackShape& shape = *pass.shape;
    const Rows<T> out = pass.out.from(offset + n);
    const std::int64_t width = padded<T>(shape.output);
    if (shape.cell.projection > 0) {
      const Rows<T> units = pass.at(pass.units, offset, n);
      const Rows<T> h = pass.hold_h.data != nullptr ? pass.at(pass.fresh_h, offset, n) : out;
      if (shape.bf16) round_fed(m, padded<T>(shape.hidden), units.read(), units);
      for (std::int64_t b = 0; b < width / W; ++b) {
        weight_product<T>(shape.bf16, 1, Start::zero, m, shape.hidden, units.data, units.stride,
                          pass.weights.projection + b * panel_rows(shape.bf16, shape.hidden) * W, h.data + b * W,
                          h.stride);
      }
    }
    if (pass.hold_h.data != nullptr) {
      hold(m, width, pass.hold_h.from(offset + n), from.h.from(n), pass.at(pass.fresh_h, offset, n), out);
    }
    if (pass.fed.data == nullptr) return;
    const Rows<T> fed = pass.fed.from(offset + n);
    if (pass.fed_mask.data != nullptr) {
      for (std::int64_t i = 0; i < m; ++i) multiply(width, out[i], pass.fed_mask[n + i], fed[i]);
    }
    if (pass.rounds_fed()) round_fed(m, width, (pass.fed_mask.data != nullptr ? fed : out).read(), fed);
  }

  /// Gradient of the cell's own h into d_units; pass.dh keeps what zoneout passes on to h₋, or zeros.
  static void start_back(const Pass& pass, std::int64_t offset, std::int64_t n, std::int64_t m) noexcept {
    const StackShape& shape = *pass.shape;
    const std::int64_t width = padded<T>(shape.output);
    const bool projected = shape.cell.projection > 0;
    const Rows<T> d_h = projected ? pass.d_projected.from(offset + n) : pass.d_units.from(n);
    for (std::int64_t i = 0; i < m; ++i) {
      T* const __restrict to = d_h[i];
      const T* const carried = pass.dh[n + i];
      std::copy_n(carried, width, to);
      if (pass.d_out.data != nullptr) {
        const T* const above = pass.d_out[offset + n + i];
        for (std::int64_t k = 0; k < width; ++k) to[k] += above[k];
      }
      if (pass.fed_mask.data != nullptr) {
        const T* const fed = pass.dh_fed[n + i];
        const T* const mask = pass.fed_mask[n + i];
        for (std::int64_t k = 0; k < width; ++k) to[k] += mask[k] * fed[k];
        std::fill_n(pass.dh_fed[n + i], width, T{0});
      }
    }
    if (pass.hold_h.data != nullptr) {
      unhold(m, width, pass.hold_h.from(offset + n), d_h, pass.dh.from(n));
    } else {
      fill(m, width, pass.dh.from(n));
    }
    if (projected) {
      const Panels<T>& back = pass.back.projection;
      if (shape.bf16) round_fed(m, width, d_h.read(), d_h);
      const Rows<T> d_units = pass.d_units.from(n);
      rows_times_panels<T>(Start::zero, m, d_h.data, d_h.stride, back, 0, back.count(), d_units.data, d_units.stride);
    }
  }

  // ---- element-wise work on m rows

  /// to = p·old + (1 − p)·fresh.
  static void hold(std::int64_t m, std::int64_t width, Rows<const T> p, Rows<const T> old, Rows<T> fresh,
                   Rows<T> to) noexcept {
    for (std::int64_t i = 0; i < m; ++i) {
      for (std::int64_t k = 0; k < width; k += W) {
        const Pack<T> held = load(p[i] + k);
        store(to[i] + k, held * load(old[i] + k) + (broadcast(T{1}) - held) * load(fresh[i] + k));
      }
    }
  }
  /// Gradient of to → held: of old, d: of fresh, in place.
  static void unhold(std::int64_t m, std::int64_t width, Rows<const T> p, Rows<T> d, Rows<T> held) noexcept {
    for (std::int64_t i = 0; i < m; ++i) {
      for (std::int64_t k = 0; k < width; k += W) {
        const Pack<T> all = load(d[i] + k);
        const Pack<T> share = load(p[i] + k);
        store(held[i] + k, share * all);
        store(d[i] + k, (broadcast(T{1}) - share) * all);
      }
    }
  }
  static void add(std::int64_t m, std::int64_t width, Rows<const T> from, Rows<T> to) noexcept {
    for (std::int64_t i = 0; i < m; ++i) {
      for (std::int64_t k = 0; k < width; k += W) store(to[i] + k, load(to[i] + k) + load(from[i] + k));
    }
  }
  static void fill(std::int64_t m, std::int64_t width, Rows<T> to) noexcept {
    for (std::int64_t i = 0; i < m; ++i) std::fill_n(to[i], width, T{0});
  }
  static void multiply(std::int64_t width, const T* a, const T* b, T* to) noexcept {
    for (std::int64_t k = 0; k < width; k += W) store(to + k, load(a + k) * load(b + k));
  }
};

LSTMCORE_END_NAMESPACE
