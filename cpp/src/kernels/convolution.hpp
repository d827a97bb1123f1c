// Convolutions of images by packed weights, strip by strip: tile products (kernels/winograd.hpp) where windows are
// 3 × 3, else products in place (kernels/window_product.hpp).
#pragma once

#include "kernels/product.hpp"
#include "kernels/window_product.hpp"
#include "kernels/winograd.hpp"

#include <array>

LSTMCORE_BEGIN_NAMESPACE

enum class ConvolutionMethod { direct, winograd };

/// What a convolution reads: `depth` channels of pixels that are `channels` apart.
struct ConvolutionInput {
  std::int64_t channels = 0;
  std::int64_t depth = 0;
};

/// Elements rounded up to an odd number of cache lines: rows at such a distance fall into all sets of a cache. (At 2 kB
/// the 36 points of a tile shared two sets.)
template <class T>
constexpr std::int64_t spread_rows(std::int64_t count) noexcept {
  constexpr std::int64_t kLine = 64 / static_cast<std::int64_t>(sizeof(T));
  const std::int64_t lines = (count + kLine - 1) / kLine;
  return (lines | 1) * kLine;
}

/// The sum over up to two inputs of their convolutions, into panels of columns.
template <class T>
class Convolution {
 public:
  static constexpr int W = kLanes<T>;
  using Inputs = std::array<const T*, 2>;  ///< pixel (y, 0) of each input, where a strip begins

  Convolution() = default;

  /// blocks: packs of columns in all, in panels of panel_packs.
  Convolution(ConvolutionMethod method, const ImageShape& image, const Taps& taps,
              std::initializer_list<ConvolutionInput> inputs, std::int64_t blocks, int panel_packs)
      : method_(method), image_(image), taps_(taps), blocks_(blocks), panel_packs_(panel_packs) {
    for (const ConvolutionInput& input : inputs) {
      inputs_[count_] = input;
      if (method == ConvolutionMethod::direct) {
        runs_[count_] = window_runs(taps, image, input.channels, input.depth, window_chunk<T>(panel_packs));
      }
      row_ = std::max(row_, depth_ + padded<T>(input.depth));
      depth_ += input.depth;
      ++count_;
    }
  }

  std::size_t inputs() const noexcept { return count_; }
  std::int64_t panels() const noexcept { return (blocks_ + panel_packs_ - 1) / panel_packs_; }
  int packs(std::int64_t panel) const noexcept {
    return static_cast<int>(std::min<std::int64_t>(panel_packs_, blocks_ - panel * panel_packs_));
  }
  /// First column of a panel.
  std::int64_t column(std::int64_t panel) const noexcept { return panel * panel_packs_ * W; }

  std::int64_t weights_size() const noexcept { return points() * depth_ * blocks_ * W; }

  /// weight(input, channel, column, tap line, tap column): an element, 0 for columns that do not exist.
  template <class Weight>
  void pack(std::int64_t panel, Weight&& weight, T* weights) const {
    T* const to = weights + column(panel) * points() * depth_;
    const std::int64_t width = std::int64_t{packs(panel)} * W;
    const std::int64_t first = column(panel);
    std::int64_t done = 0;
    for (std::size_t i = 0; i < count_; ++i) {
      const std::int64_t depth = inputs_[i].depth;
      if (method_ == ConvolutionMethod::direct) {
        for (std::int64_t y = 0; y < taps_.lines(); ++y) {
          for (std::int64_t x = 0; x < taps_.columns(); ++x) {
            T* const tap = to + (done * points() + (y * taps_.columns() + x) * depth) * width;
            for (std::int64_t c = 0; c < depth; ++c) {
              for (std::int64_t j = 0; j < width; ++j) tap[c * width + j] = weight(i, c, first + j, y, x);
            }
          }
        }
      } else {
        for (std::int64_t c = 0; c < depth; ++c) {
          for (std::int64_t j = 0; j < width; j += W) {
            Pack<T> k[9];
            for (std::int64_t tap = 0; tap < 9; ++tap) {
              T values[W];
              for (int lane = 0; lane < W; ++lane) values[lane] = weight(i, c, first + j + lane, tap / 3, tap % 3);
              k[tap] = load(values);
            }
            winograd::kernel_tile<T>(k, to + (done + c) * width + j, depth_ * width);
          }
        }
      }
      done += depth;
    }
  }

  /// Elements of scratch for strips of at most `lines` lines.
  std::int64_t scratch(std::int64_t lines) const noexcept {
    if (method_ == ConvolutionMethod::direct) return 0;
    const std::int64_t tiles = tiles_of(lines);
    return winograd::kPoints * (input_distance(tiles) + output_distance(tiles, panel_packs_));
  }

  /// Before the panels of a strip. Reads packs of channels: up to one pack more than there are.
  void prepare(const Inputs& from, std::int64_t lines, T* scratch) const noexcept {
    if (method_ == ConvolutionMethod::direct) return;
    const std::int64_t distance = input_distance(tiles_of(lines));
    std::int64_t offset = 0;
    for (std::size_t i = 0; i < count_; ++i) {
      const std::int64_t pixel = inputs_[i].channels;
      const std::int64_t line = image_.pitch * pixel;
      T* to = scratch + offset;
      for (std::int64_t y = 0; y < lines; y += winograd::kOut) {
        for (std::int64_t x = 0; x < image_.width; x += winograd::kOut, to += row_) {
          const T* const tile = from[i] + (y - 1) * line + (x - 1) * pixel;
          for (std::int64_t c = 0; c < inputs_[i].depth; c += W) {
            winograd::input_tile<T>(tile + c, pixel, line, to + c, distance);
          }
        }
      }
      offset += inputs_[i].depth;
    }
  }

  /// One panel of a prepared strip: c, at the panel's first column, = or +=. bias: of all columns, with Start::bias.
  void run(std::int64_t panel, Start start, const Inputs& from, std::int64_t lines, const T* weights, const T* bias,
           StripLines<T> c, T* scratch) const noexcept {
    const T* b = weights + column(panel) * points() * depth_;
    const int packs = this->packs(panel);
    if (bias != nullptr) bias += column(panel);
    if (method_ == ConvolutionMethod::direct) {
      for (std::size_t i = 0; i < count_; ++i) {
        const std::int64_t pixel = inputs_[i].channels;
        window_product<T>(packs, start, lines, image_.width, runs_[i], {from[i], pixel, image_.pitch * pixel}, b, c,
                          bias);
        b += points() * inputs_[i].depth * packs * W;
        start = Start::sum;
      }
      return;
    }
    const std::int64_t tiles = tiles_of(lines);
    const std::int64_t width = std::int64_t{packs} * W;
    const std::int64_t in = input_distance(tiles);
    const std::int64_t out = output_distance(tiles, packs);
    T* const products = scratch + winograd::kPoints * in;
    for (std::int64_t p = 0; p < winograd::kPoints; ++p) {
      panel_product<T>(packs, Start::zero, tiles, depth_, scratch + p * in, row_, b + p * depth_ * width,
                       products + p * out, width);
    }
    const T* tile = products;
    for (std::int64_t y = 0; y < lines; y += winograd::kOut) {
      for (std::int64_t x = 0; x < image_.width; x += winograd::kOut, tile += width) {
        for (std::int64_t j = 0; j < width; j += W) {
          winograd::output_tile<T>(start, tile + j, out, bias + j, c.at(y) + x * c.pixel + j, c.pixel, c.line,
                                   std::min(winograd::kOut, lines - y), std::min(winograd::kOut, image_.width - x));
        }
      }
    }
  }

 private:
  /// Packed matrices for each pair of channel and column.
  std::int64_t points() const noexcept {
    return method_ == ConvolutionMethod::direct ? taps_.count() : winograd::kPoints;
  }
  std::int64_t tiles_of(std::int64_t lines) const noexcept {
    constexpr std::int64_t kOut = winograd::kOut;
    return (lines + kOut - 1) / kOut * ((image_.width + kOut - 1) / kOut);
  }
  std::int64_t input_distance(std::int64_t tiles) const noexcept { return spread_rows<T>(tiles * row_); }
  static std::int64_t output_distance(std::int64_t tiles, int packs) noexcept {
    return spread_rows<T>(tiles * packs * W);
  }

  ConvolutionMethod method_ = ConvolutionMethod::direct;
  ImageShape image_;
  Taps taps_;
  std::array<ConvolutionInput, 2> inputs_{};
  std::array<std::vector<Run>, 2> runs_;
  std::size_t count_ = 0;
  std::int64_t depth_ = 0;  ///< channels of all inputs
  std::int64_t row_ = 0;  ///< distance of tiles in the scratch: whole packs are written, each over the end of the last
  std::int64_t blocks_ = 0;
  int panel_packs_ = 1;
};

LSTMCORE_END_NAMESPACE
