// One convolutional layer: its convolutions, its packed weights, and what a pass over a batch reads and writes.
#pragma once

#include "base/arena.hpp"
#include "sequence/batch.hpp"
#include "sequence/conv_shape.hpp"

LSTMCORE_BEGIN_NAMESPACE

/// Packed weights of a layer. Gate columns are in block order.
template <class T>
struct ConvWeights {
  std::array<T*, 2> forward{};  ///< of ConvLayer::forward
  std::array<T*, 2> bias{};
  T* maps = nullptr;  ///< peepholes [Y][X][block][vector][W]
};

/// The convolutions of one layer. Cells that take R·h₋ apart from W·x (gru) have two forward, one for each; all others
/// one, of both inputs.
template <class T>
struct ConvLayer {
  static constexpr int W = kLanes<T>;

  int forwards = 1;
  std::array<Convolution<T>, 2> forward;
  Convolution<T> back_h, back_x;  ///< dG → gradient of h₋ and of the input
  std::array<ConvolutionGradient<T>, 2> gradient;
  std::int64_t input = 0;  ///< C of the input
  const ConvShape* shape = nullptr;

  ConvLayer(const ConvShape& conv, std::int64_t layer) : input(conv.dense.layer_input(layer)), shape(&conv) {
    const std::int64_t hidden = conv.dense.hidden;
    const std::int64_t hp = padded<T>(hidden);
    const int gates = conv.dense.gates;
    const std::int64_t blocks = blocks_of<T>(hidden);
    const ConvolutionInput x{layer == 0 ? input : hp, input};
    const ConvolutionInput h{hp, hidden};
    const ConvolutionInput dg{gates * hp, gates * hp};
    using Inputs = std::initializer_list<ConvolutionInput>;  // Clang 14 does not deduce it
    const auto make = [&](Inputs inputs) {
      return Convolution<T>(conv.method, conv.image, conv.taps, inputs, blocks * gates, gates);
    };
    const auto make_gradient = [&](Inputs inputs) {
      return ConvolutionGradient<T>(conv.method, conv.image, conv.taps, inputs, gates * hp);
    };
    if (conv.dense.cell.separate) {
      forwards = 2;
      forward = {make(Inputs{x}), make(Inputs{h})};
      gradient = {make_gradient(Inputs{x}), make_gradient(Inputs{h})};
    } else {
      forward[0] = make(Inputs{x, h});
      gradient[0] = make_gradient(Inputs{x, h});
    }
    back_h = Convolution<T>(conv.method, conv.image, conv.taps, {dg}, blocks, kPanelPacks);
    back_x = Convolution<T>(conv.method, conv.image, conv.taps, {dg}, blocks_of<T>(input), kPanelPacks);
  }

  /// The user's row of W, R and b of a gate column; −1 for padding.
  std::int64_t user_row(std::int64_t column) const noexcept {
    const std::int64_t gates = shape->dense.gates;
    const std::int64_t unit = column / (gates * W) * W + column % W;
    return unit < shape->dense.hidden ? column / W % gates * shape->dense.hidden + unit : -1;
  }

  void pack(const ConvTensors& at, const T* parameters, const ConvWeights<T>& to, Member member) const {
    const Taps& taps = shape->taps;
    const std::int64_t window = taps.size * taps.size;
    const std::int64_t hidden = shape->dense.hidden;
    for (int f = 0; f < forwards; ++f) {
      const auto i = static_cast<std::size_t>(f);
      const Member::Range range = member.share(forward[i].panels());
      for (std::int64_t panel = range.begin; panel < range.end; ++panel) {
        forward[i].pack(
            panel,
            [&](std::size_t operand, std::int64_t c, std::int64_t column, std::int64_t y, std::int64_t x) {
              const std::int64_t row = user_row(column);
              if (row < 0) return T{0};
              const bool of_h = f == 1 || operand == 1;
              return parameters[(of_h ? at.R + (row * hidden + c) * window : at.W + (row * input + c) * window) +
                                taps.place(y, x)];
            },
            to.forward[i]);
      }
    }
    if (member.id != 0) return;
    const int gates = shape->dense.gates;
    pack_gate_vector<T>(parameters + at.b, gates, hidden, to.bias[0]);
    if (forwards == 2) pack_gate_vector<T>(parameters + at.bR, gates, hidden, to.bias[1]);
    if (to.maps != nullptr)
      visit_maps(
          [&](std::int64_t packed, std::int64_t user) { to.maps[packed] = user < 0 ? T{0} : parameters[at.P + user]; });
  }

  /// Weights for gradients that flow back: of_h, R, else W.
  void pack_back(bool of_h, const ConvTensors& at, const T* parameters, T* to, Member member) const {
    const Taps& taps = shape->taps;
    const std::int64_t window = taps.size * taps.size;
    const Convolution<T>& convolution = of_h ? back_h : back_x;
    const std::int64_t columns = of_h ? shape->dense.hidden : input;
    const T* const weights = parameters + (of_h ? at.R : at.W);
    const Member::Range range = member.share(convolution.panels());
    for (std::int64_t panel = range.begin; panel < range.end; ++panel) {
      convolution.pack(
          panel,
          [&](std::size_t, std::int64_t c, std::int64_t column, std::int64_t y, std::int64_t x) {
            const std::int64_t row = user_row(c);
            if (row < 0 || column >= columns) return T{0};
            return weights[(row * columns + column) * window +
                           taps.place(taps.lines() - 1 - y, taps.columns() - 1 - x)];
          },
          to);
    }
  }

  /// f(packed element of the maps, the user's, −1 for padding).
  template <class F>
  void visit_maps(F&& f) const {
    const ImageShape& image = shape->image;
    const auto vectors = static_cast<std::int64_t>(shape->dense.cell.vectors);
    const std::int64_t hp = padded<T>(shape->dense.hidden);
    for (std::int64_t vector = 0; vector < vectors; ++vector) {
      for (std::int64_t unit = 0; unit < hp; ++unit) {
        const std::int64_t first = (unit / W * vectors + vector) * W + unit % W;
        for (std::int64_t pixel = 0; pixel < image.inner(); ++pixel) {
          f(pixel * vectors * hp + first,
            unit < shape->dense.hidden ? (vector * shape->dense.hidden + unit) * image.inner() + pixel : -1);
        }
      }
    }
  }
};

/// One layer's part of a pass. An image is one step of one sequence, numbered as the rows of sequence/batch.hpp; those
/// marked [N] exist once a sequence.
template <class T>
struct ConvPass {
  Images<T> input;                             ///< with border: x, or out of the layer below
  Images<T> h0;                                ///< [N] with border
  Images<T> out;                               ///< h, with border
  std::array<Images<T>, kMaxStates> state{};   ///< [N] initial, and outside training current and final
  std::array<Images<T>, kMaxStates> record{};  ///< recording
  Images<T> gates, recurrent;                  ///< recording, with border: backward convolves their gradients
  ConvWeights<T> weights;

  // backward
  T *back_h = nullptr, *back_x = nullptr;  ///< packed weights
  Images<T> d_out;                         ///< gradient of out
  Images<T> d_input;                       ///< of the input; absent: not wanted
  Images<T> dh;                            ///< [N]: gradient of the final h, at the end of the initial h
  std::array<Images<T>, kMaxStates> d_state{};
  T* d_maps = nullptr;
  std::array<T*, 2> gradient{};  ///< scratch of ConvLayer::gradient
};

LSTMCORE_END_NAMESPACE
