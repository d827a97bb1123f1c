// Images as the convolutions see them, and the taps of a window.
//
// An image lies line by line, pixel by pixel, its channels side by side, inside a border of zeros as wide as the window
// reaches: "same" padding then needs no test at any pixel, and a pixel is a row for the register tiles and for the
// pointwise loop. A tap moves all pixels of a line by one distance, so a convolution is a sum of products over taps of
// rows that lie in place: nothing is unfolded.
#pragma once

#include "kernels/packing.hpp"

#include <cstdint>
#include <vector>

LSTMCORE_BEGIN_NAMESPACE

/// Y × X pixels inside their border.
struct ImageShape {
  std::int64_t height = 0, width = 0;
  std::int64_t border_y = 0, border_x = 0;
  std::int64_t lines = 0, pitch = 0;  ///< with border

  std::int64_t pixels() const noexcept { return lines * pitch; }
  std::int64_t inner() const noexcept { return height * width; }
  /// Pixel (y, x), counted with the border.
  std::int64_t at(std::int64_t y, std::int64_t x = 0) const noexcept { return (y + border_y) * pitch + x + border_x; }
};

/// Images of one pass, one after the other.
template <class T>
struct Images {
  T* data = nullptr;
  std::int64_t channels = 0;  ///< distance of pixels
  const ImageShape* shape = nullptr;
  bool bordered = true;

  T* image(std::int64_t index) const noexcept {
    return data + index * (bordered ? shape->pixels() : shape->inner()) * channels;
  }
  T* pixel(std::int64_t index, std::int64_t y) const noexcept {
    return image(index) + (bordered ? shape->at(y) : y * shape->width) * channels;
  }
  std::int64_t line() const noexcept { return (bordered ? shape->pitch : shape->width) * channels; }

  /// Zeroes the border of one image.
  void clear_border(std::int64_t index) const noexcept {
    const std::int64_t row = line();
    const std::int64_t left = shape->border_x * channels;
    const std::int64_t right = left + shape->width * channels;
    T* from = image(index);
    for (std::int64_t y = 0; y < shape->lines; ++y, from += row) {
      if (y < shape->border_y || y >= shape->border_y + shape->height) {
        std::fill_n(from, row, T{0});
      } else {
        std::fill_n(from, left, T{0});
        std::fill(from + right, from + row, T{0});
      }
    }
  }
};

/// The taps that can meet an image at all: (2·reach_y + 1) × (2·reach_x + 1), `dilation` pixels apart.
struct Taps {
  std::int64_t size = 1;  ///< of the whole kernel, odd
  std::int64_t dilation = 1;
  std::int64_t reach_y = 0, reach_x = 0;

  Taps() = default;
  Taps(std::int64_t kernel, std::int64_t spread, std::int64_t height, std::int64_t width) noexcept
      : size(kernel),
        dilation(spread),
        reach_y(std::min((kernel - 1) / 2, (height - 1) / spread)),
        reach_x(std::min((kernel - 1) / 2, (width - 1) / spread)) {}

  std::int64_t lines() const noexcept { return 2 * reach_y + 1; }
  std::int64_t columns() const noexcept { return 2 * reach_x + 1; }
  std::int64_t count() const noexcept { return lines() * columns(); }
  /// Place in the user's kernel of tap (line, column) of the taps here.
  std::int64_t place(std::int64_t line, std::int64_t column) const noexcept {
    const std::int64_t centre = (size - 1) / 2;
    return (line - reach_y + centre) * size + column - reach_x + centre;
  }
};

/// Values that lie side by side under a window, from `offset` elements behind the window's middle pixel.
struct Run {
  std::int64_t offset;
  std::int64_t depth;
};

/// The runs of a window over `depth` channels of pixels `channels` apart, none longer than `longest`: one for each line
/// of taps where neighbouring taps touch, else one for each tap. Their values come in the order [tap][channel].
inline std::vector<Run> window_runs(const Taps& taps, const ImageShape& image, std::int64_t channels,
                                    std::int64_t depth, std::int64_t longest) {
  std::vector<Run> runs;
  const bool touching = taps.dilation == 1 && channels == depth;
  for (std::int64_t line = 0; line < taps.lines(); ++line) {
    for (std::int64_t column = 0; column < (touching ? 1 : taps.columns()); ++column) {
      const std::int64_t y = (line - taps.reach_y) * taps.dilation;
      const std::int64_t x = (column - taps.reach_x) * taps.dilation;
      const std::int64_t first = (y * image.pitch + x) * channels;
      const std::int64_t count = touching ? depth * taps.columns() : depth;
      for (std::int64_t k = 0; k < count; k += longest) runs.push_back({first + k, std::min(longest, count - k)});
    }
  }
  return runs;
}

LSTMCORE_END_NAMESPACE
