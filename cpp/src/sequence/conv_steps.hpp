// The loop over time of one convolutional layer, forward and backward (BPTT). Threads share strips of all images of a
// step and meet after it, since a strip reads its neighbours of the step before.
#pragma once

#include "kernels/pointwise.hpp"
#include "sequence/conv_layer.hpp"

LSTMCORE_BEGIN_NAMESPACE

template <class T>
struct ConvSteps {
  static constexpr int W = kLanes<T>;

  const ConvLayer<T>& layer;
  const ConvShape& shape;
  const CellKernels<T>& kernels;
  const BatchLayout& layout;
  const ConvPass<T>& pass;
  SpinBarrier& team;
  Member member;

  static std::int64_t forward_scratch(const ConvLayer<T>& layer) noexcept {
    const ConvShape& shape = *layer.shape;
    return products(layer) + 2 * shape.strip_lines() * shape.image.width * shape.dense.gates * W;
  }
  static std::int64_t backward_scratch(const ConvLayer<T>& layer) noexcept {
    const std::int64_t lines = layer.shape->strip_lines();
    return std::max(layer.back_h.scratch(lines), layer.back_x.scratch(lines));
  }

  void forward(bool recording, T* scratch) const noexcept {
    for (std::int64_t t = 0; t < layout.steps(); ++t) {
      for_strips(t, [&](std::int64_t n, std::int64_t y, std::int64_t lines) {
        forward_strip(t, n, y, lines, recording, scratch);
      });
      team.wait(member.size);
    }
  }

  /// From gradients of outputs and final states to those of pre-activations (in place of the gates), of the input, of
  /// initial states and weights.
  void backward(T* scratch) const noexcept {
    for (int g = 0; g < layer.forwards; ++g) {
      layer.gradient[static_cast<std::size_t>(g)].begin(pass.gradient[static_cast<std::size_t>(g)], member);
    }
    team.wait(member.size);
    for (std::int64_t t = layout.steps() - 1; t >= 0; --t) {
      for_strips(t, [&](std::int64_t n, std::int64_t y, std::int64_t lines) { backward_strip(t, n, y, lines); });
      team.wait(member.size);
      for_strips(t, [&](std::int64_t n, std::int64_t y, std::int64_t lines) {
        const Images<T>& of_h = layer.forwards == 2 ? pass.recurrent : pass.gates;
        const std::int64_t row = layout.row(t, n);
        flow(layer.back_h, pass.back_h, of_h.pixel(row, y), Start::sum, pass.dh, n, y, lines, scratch);
        if (pass.d_input.data == nullptr) return;
        flow(layer.back_x, pass.back_x, pass.gates.pixel(row, y), Start::zero, pass.d_input, row, y, lines, scratch);
      });
      weight_gradients(t);
      if (pass.d_maps != nullptr) map_gradients(t);
      team.wait(member.size);
    }
  }

 private:
  static std::int64_t products(const ConvLayer<T>& layer) noexcept {
    std::int64_t count = 0;
    for (int f = 0; f < layer.forwards; ++f) {
      count += layer.forward[static_cast<std::size_t>(f)].scratch(layer.shape->strip_lines());
    }
    return count;
  }

  /// f(sequence, first line, lines) for this member's share of the strips of step t.
  template <class F>
  void for_strips(std::int64_t t, F&& f) const noexcept {
    const std::int64_t strips = shape.strips();
    const Member::Range range = member.share(layout.active(t) * strips);
    for (std::int64_t strip = range.begin; strip < range.end; ++strip) {
      const std::int64_t y = strip % strips * shape.strip_lines();
      f(strip / strips, y, std::min(shape.strip_lines(), shape.image.height - y));
    }
  }

  T* h_before(std::int64_t t, std::int64_t n, std::int64_t y) const noexcept {
    return t == 0 ? pass.h0.pixel(n, y) : pass.out.pixel(layout.row(t - 1, n), y);
  }
  T* state_before(std::size_t s, std::int64_t t, std::int64_t n, std::int64_t y, bool recording) const noexcept {
    return t == 0 || !recording ? pass.state[s].pixel(n, y) : pass.record[s].pixel(layout.row(t - 1, n), y);
  }
  /// Peepholes of a line: one row a pixel.
  Rows<const T> maps(std::int64_t y) const noexcept {
    const std::int64_t width = static_cast<std::int64_t>(shape.dense.cell.vectors) * padded<T>(shape.dense.hidden);
    if (width == 0) return {};
    return {pass.weights.maps + y * shape.image.width * width, width};
  }

  void forward_strip(std::int64_t t, std::int64_t n, std::int64_t y, std::int64_t lines, bool recording,
                     T* scratch) const noexcept {
    const std::int64_t row = layout.row(t, n);
    const std::int64_t width = std::int64_t{shape.dense.gates} * W;
    const std::size_t states = shape.dense.cell.states;
    const std::size_t vectors = shape.dense.cell.vectors;
    const bool separate = layer.forwards == 2;
    const T* const x = pass.input.pixel(row, y);
    const T* const h = h_before(t, n, y);
    const std::array<typename Convolution<T>::Inputs, 2> from = {
        separate ? typename Convolution<T>::Inputs{x, nullptr} : typename Convolution<T>::Inputs{x, h},
        typename Convolution<T>::Inputs{h, nullptr}};
    std::array<T*, 2> room = {scratch, scratch + layer.forward[0].scratch(shape.strip_lines())};
    for (int f = 0; f < layer.forwards; ++f) {
      const auto i = static_cast<std::size_t>(f);
      layer.forward[i].prepare(from[i], lines, room[i]);
    }
    T* const buffers = scratch + products(layer);
    const std::int64_t buffer = shape.strip_lines() * shape.image.width * width;
    for (std::int64_t b = 0; b < layer.forward[0].panels(); ++b) {
      std::array<StripLines<T>, 2> to;
      for (int f = 0; f < layer.forwards; ++f) {
        const auto i = static_cast<std::size_t>(f);
        const Images<T>& images = f == 0 ? pass.gates : pass.recurrent;
        to[i] = recording ? StripLines<T>{images.pixel(row, y) + b * width, images.channels, images.line()}
                          : StripLines<T>{buffers + f * buffer, width, width * shape.image.width};
        layer.forward[i].run(b, Start::bias, from[i], lines, pass.weights.forward[i], pass.weights.bias[i], to[i],
                             room[i]);
      }
      ForwardBlock<T> block{};
      block.rows = shape.image.width;
      for (std::int64_t line = 0; line < lines; ++line) {
        block.gate = {to[0].at(line), to[0].pixel};
        if (separate) block.recurrent = {to[1].at(line), to[1].pixel};
        block.vector = cut(maps(y + line), 0, b * static_cast<std::int64_t>(vectors) * W);
        block.h_previous = {h_before(t, n, y + line) + b * W, pass.out.channels};
        block.h_fed = block.h_previous;
        for (std::size_t s = 0; s < states; ++s) {
          const Images<T>& next = recording ? pass.record[s] : pass.state[s];
          block.previous[s] = {state_before(s, t, n, y + line, recording) + b * W, next.channels};
          block.next[s] = {next.pixel(recording ? row : n, y + line) + b * W, next.channels};
        }
        block.h = {pass.out.pixel(row, y + line) + b * W, pass.out.channels};
        kernels.forward(block);
      }
    }
  }

  void backward_strip(std::int64_t t, std::int64_t n, std::int64_t y0, std::int64_t lines) const noexcept {
    const std::int64_t row = layout.row(t, n);
    const std::int64_t width = std::int64_t{shape.dense.gates} * W;
    const auto vectors = static_cast<std::int64_t>(shape.dense.cell.vectors);
    BackwardBlock<T> block{};
    block.rows = shape.image.width;
    for (std::int64_t y = y0; y < y0 + lines; ++y) {
      for (std::int64_t b = 0; b < layer.forward[0].panels(); ++b) {
        block.gate = {pass.gates.pixel(row, y) + b * width, pass.gates.channels};
        if (layer.forwards == 2) block.recurrent = {pass.recurrent.pixel(row, y) + b * width, pass.recurrent.channels};
        block.vector = cut(maps(y), 0, b * vectors * W);
        block.h_previous = {h_before(t, n, y) + b * W, pass.out.channels};
        block.h_fed = block.h_previous;
        block.h = {pass.out.pixel(row, y) + b * W, pass.out.channels};
        for (std::size_t s = 0; s < shape.dense.cell.states; ++s) {
          block.previous[s] = {state_before(s, t, n, y, true) + b * W, pass.record[s].channels};
          block.next[s] = {pass.record[s].pixel(row, y) + b * W, pass.record[s].channels};
          block.d_state[s] = {pass.d_state[s].pixel(n, y) + b * W, pass.d_state[s].channels};
        }
        block.d_out = {pass.d_out.pixel(row, y) + b * W, pass.d_out.channels};
        block.dh = {pass.dh.pixel(n, y) + b * W, pass.dh.channels};
        kernels.backward(block);
      }
    }
  }

  /// Gradients of one strip flow back through a convolution.
  void flow(const Convolution<T>& back, const T* weights, const T* dg, Start start, const Images<T>& to,
            std::int64_t index, std::int64_t y, std::int64_t lines, T* scratch) const noexcept {
    const typename Convolution<T>::Inputs from{dg, nullptr};
    back.prepare(from, lines, scratch);
    for (std::int64_t panel = 0; panel < back.panels(); ++panel) {
      back.run(panel, start, from, lines, weights, nullptr,
               {to.pixel(index, y) + back.column(panel), to.channels, to.line()}, scratch);
    }
  }

  void weight_gradients(std::int64_t t) const noexcept {
    using Gradient = ConvolutionGradient<T>;
    using Inputs = typename Gradient::Inputs;
    // f(gradient, its scratch, dG, inputs) of one image from line y on.
    const auto each = [&](std::int64_t n, std::int64_t y, auto&& f) {
      const std::int64_t row = layout.row(t, n);
      const T* const x = pass.input.pixel(row, y);
      const T* const h = h_before(t, n, y);
      if (layer.forwards == 2) {
        f(layer.gradient[0], pass.gradient[0], pass.gates.pixel(row, y), Inputs{x, nullptr});
        f(layer.gradient[1], pass.gradient[1], pass.recurrent.pixel(row, y), Inputs{h, nullptr});
      } else {
        f(layer.gradient[0], pass.gradient[0], pass.gates.pixel(row, y), Inputs{x, h});
      }
    };
    for (std::int64_t n = 0; n < layout.active(t); ++n) {
      each(n, 0, [&](const Gradient& gradient, T* room, const T* dg, const Inputs& from) {
        gradient.accumulate(dg, from, shape.image.height, room, member);
      });
    }
    if (shape.method == ConvolutionMethod::direct) return;
    const std::int64_t band = layer.gradient[0].band();
    const std::int64_t group = layer.gradient[0].group();
    for (std::int64_t n = 0; n < layout.active(t); n += group) {
      const std::int64_t images = std::min(group, layout.active(t) - n);
      for (std::int64_t y = 0; y < shape.image.height; y += band) {
        const std::int64_t lines = std::min(band, shape.image.height - y);
        for (std::int64_t i = 0; i < images; ++i) {
          each(n + i, y, [&](const Gradient& gradient, T* room, const T* dg, const Inputs& from) {
            gradient.transform(dg, from, lines, i, images, room, member);
          });
        }
        team.wait(member.size);
        for (int g = 0; g < layer.forwards; ++g) {
          const auto k = static_cast<std::size_t>(g);
          layer.gradient[k].multiply(lines, images, pass.gradient[k], member);
        }
        team.wait(member.size);
      }
    }
  }

  /// Peepholes: products pixel by pixel, summed over sequences in their order.
  void map_gradients(std::int64_t t) const noexcept {
    const CellSpec& cell = shape.dense.cell;
    const std::int64_t hp = padded<T>(shape.dense.hidden);
    const auto vectors = static_cast<std::int64_t>(cell.vectors);
    const Member::Range range = member.share(shape.image.height);
    for (std::int64_t n = 0; n < layout.active(t); ++n) {
      const std::int64_t row = layout.row(t, n);
      for (std::int64_t y = range.begin; y < range.end; ++y) {
        for (std::size_t k = 0; k < cell.vectors; ++k) {
          const VectorTerm& term = cell.vector_terms[k];
          const auto s = static_cast<std::size_t>(term.state);
          const T* const values =
              term.input == VectorInput::next_state ? pass.record[s].pixel(row, y) : state_before(s, t, n, y, true);
          const T* const dg = pass.gates.pixel(row, y) + term.gate * W;
          T* const to = pass.d_maps + y * shape.image.width * vectors * hp + static_cast<std::int64_t>(k) * W;
          for (std::int64_t x = 0; x < shape.image.width; ++x) {
            for (std::int64_t b = 0; b < hp / W; ++b) {
              T* const at = to + x * vectors * hp + b * vectors * W;
              store(at, load(at) + load(dg + x * pass.gates.channels + b * shape.dense.gates * W) *
                                       load(values + x * hp + b * W));
            }
          }
        }
      }
    }
  }
};

LSTMCORE_END_NAMESPACE
