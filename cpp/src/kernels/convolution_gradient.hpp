// Weight gradients of convolutions: for every tap the sum over pixels of dGᵀ · shifted input, and sums of dG (bias).
#pragma once

#include "base/threads.hpp"
#include "kernels/convolution.hpp"
#include "kernels/outer_product.hpp"

LSTMCORE_BEGIN_NAMESPACE

/// Gradients for up to two inputs under the same dG [pixels, columns]. A team calls begin(), accumulate() for each
/// image, and finish(); with tiles, for each group of images (or band of one) transform(), a barrier, multiply(), a
/// barrier. Every sum runs in the order of the images, cut among threads by columns or points.
template <class T>
class ConvolutionGradient {
 public:
  static constexpr int W = kLanes<T>;
  using Inputs = std::array<const T*, 2>;

  ConvolutionGradient() = default;
  ConvolutionGradient(ConvolutionMethod method, const ImageShape& image, const Taps& taps,
                      std::initializer_list<ConvolutionInput> inputs, std::int64_t columns)
      : method_(method), image_(image), taps_(taps), columns_(columns) {
    for (const ConvolutionInput& input : inputs) {
      inputs_[count_] = input;
      if (method == ConvolutionMethod::direct) {
        runs_[count_] = window_runs(taps, image, input.channels, input.depth, std::int64_t{1} << 60);
        for (const Run& run : runs_[count_]) row_ += padded<T>(run.depth);
      } else {
        row_ = std::max(row_, depth_ + padded<T>(input.depth));
      }
      depth_ += input.depth;
      ++count_;
    }
    if (method == ConvolutionMethod::winograd) row_ = spread_rows<T>(row_);
    sum_row_ = method == ConvolutionMethod::direct ? row_ : padded<T>(depth_);
  }

  /// Lines of an image that are taken at once, and, where those are all, images.
  std::int64_t band() const noexcept {
    if (method_ == ConvolutionMethod::direct) return image_.height;
    return std::min(image_.height, std::max<std::int64_t>(1, kTiles / tiles_x()) * winograd::kOut);
  }
  std::int64_t group() const noexcept {
    if (method_ == ConvolutionMethod::direct || band() < image_.height) return 1;
    return std::max<std::int64_t>(1, kTiles / tiles_of(image_.height));
  }

  /// Elements that begin() … finish() work in, shared by the team; images: at most so many are in a group.
  std::int64_t scratch(std::int64_t images) const noexcept {
    if (method_ == ConvolutionMethod::direct) return sums_size() + columns_;
    const std::int64_t tiles = std::min(images, group()) * tiles_of(band());
    return sums_size() + columns_ +
           winograd::kPoints * (spread_rows<T>(tiles * row_) + spread_rows<T>(tiles * dg_row()));
  }

  void begin(T* scratch, Member member) const noexcept {
    const Member::Range range = member.share(sums_size() + columns_, 16);
    std::fill(scratch + range.begin, scratch + range.end, T{0});
  }

  /// One image of a group of `images`. dg and inputs: pixel (y, 0) where the band begins.
  void transform(const T* dg, const Inputs& from, std::int64_t lines, std::int64_t index, std::int64_t images,
                 T* scratch, Member member) const noexcept {
    const std::int64_t tiles = tiles_of(lines);
    const Tiles room(*this, scratch, tiles * images);
    const Member::Range range = member.share(tiles);
    for (std::int64_t tile = range.begin; tile < range.end; ++tile) {
      const std::int64_t y = tile / tiles_x() * winograd::kOut;
      const std::int64_t x = tile % tiles_x() * winograd::kOut;
      T* to = room.inputs + (index * tiles + tile) * row_;
      for (std::size_t i = 0; i < count_; ++i) {
        const std::int64_t pixel = inputs_[i].channels;
        const std::int64_t line = image_.pitch * pixel;
        const T* const first = from[i] + (y - 1) * line + (x - 1) * pixel;
        for (std::int64_t c = 0; c < inputs_[i].depth; c += W) {
          winograd::input_tile<T>(first + c, pixel, line, to + c, room.input_distance);
        }
        to += inputs_[i].depth;
      }
      const std::int64_t line = image_.pitch * columns_;
      const T* const first = dg + y * line + x * columns_;
      to = room.gradients + (index * tiles + tile) * dg_row();
      for (std::int64_t j = 0; j < columns_; j += W) {
        winograd::gradient_tile<T>(first + j, columns_, line, to + j, room.gradient_distance);
      }
    }
  }

  /// After transform() of all images of a group, and a barrier.
  void multiply(std::int64_t lines, std::int64_t images, T* scratch, Member member) const noexcept {
    const std::int64_t tiles = tiles_of(lines) * images;
    const Tiles room(*this, scratch, tiles);
    const Member::Range range = member.share(winograd::kPoints);
    for (std::int64_t p = range.begin; p < range.end; ++p) {
      outer_product<T>(columns_, depth_, tiles, room.gradients + p * room.gradient_distance, dg_row(),
                       room.inputs + p * room.input_distance, row_, scratch + p * columns_ * sum_row_, sum_row_);
    }
  }

  /// One image; for tiles the bias alone.
  void accumulate(const T* dg, const Inputs& from, std::int64_t lines, T* scratch, Member member) const noexcept {
    const std::int64_t line = image_.pitch * columns_;
    bias_sums(dg, line, lines, scratch + sums_size(), member);
    if (method_ != ConvolutionMethod::direct) return;
    const Member::Range range = member.share(columns_, tile_rows(2));
    for (std::int64_t y = 0; y < lines; ++y) {
      T* sums = scratch + range.begin * sum_row_;
      for (std::size_t i = 0; i < count_; ++i) {
        const std::int64_t pixel = inputs_[i].channels;
        for (const Run& run : runs_[i]) {
          outer_product<T>(range.end - range.begin, run.depth, image_.width, dg + y * line + range.begin, columns_,
                           from[i] + y * image_.pitch * pixel + run.offset, pixel, sums, sum_row_);
          sums += padded<T>(run.depth);
        }
      }
    }
  }

  /// gradient(input): the user's [G·H, depth, size, size], at the tensor's first element; elements of taps that meet no
  /// pixel are left alone. row(column): the user's row, −1 where there is none. Columns are shared out.
  template <class Row>
  void finish(const T* scratch, const std::array<T*, 2>& gradient, T* bias, Row&& row, Member member) const noexcept {
    const Member::Range range = member.share(columns_);
    for (std::int64_t column = range.begin; column < range.end; ++column) {
      const std::int64_t r = row(column);
      if (r < 0) continue;
      if (bias != nullptr) bias[r] = scratch[sums_size() + column];
      const T* sums = scratch + column * sum_row_;
      for (std::size_t i = 0; i < count_; ++i) {
        const std::int64_t depth = inputs_[i].depth;
        const std::int64_t window = taps_.size * taps_.size;
        T* const to = gradient[i] + r * depth * window;
        if (method_ == ConvolutionMethod::winograd) {
          for (std::int64_t c = 0; c < depth; ++c) {
            winograd::kernel_gradient<T>(sums + c, columns_ * sum_row_, to + c * window);
          }
          sums += depth;
          continue;
        }
        std::int64_t tap = 0;
        for (const Run& run : runs_[i]) {
          for (std::int64_t k = 0; k < run.depth; ++k) {
            const std::int64_t t = tap + k / depth;
            to[k % depth * window + taps_.place(t / taps_.columns(), t % taps_.columns())] = sums[k];
          }
          tap += run.depth / depth;
          sums += padded<T>(run.depth);
        }
      }
    }
  }

 private:
  static constexpr std::int64_t kTiles = 256;  ///< that are multiplied at once

  /// Transformed tiles: 36 matrices [tiles, channels] and [tiles, columns], behind the sums.
  struct Tiles {
    T* inputs;
    std::int64_t input_distance;
    T* gradients;
    std::int64_t gradient_distance;

    Tiles(const ConvolutionGradient& of, T* scratch, std::int64_t tiles) noexcept
        : inputs(scratch + of.sums_size() + of.columns_),
          input_distance(spread_rows<T>(tiles * of.row_)),
          gradients(inputs + winograd::kPoints * input_distance),
          gradient_distance(spread_rows<T>(tiles * of.dg_row())) {}
  };

  std::int64_t tiles_of(std::int64_t lines) const noexcept {
    return (lines + winograd::kOut - 1) / winograd::kOut * tiles_x();
  }
  std::int64_t tiles_x() const noexcept { return (image_.width + winograd::kOut - 1) / winograd::kOut; }
  std::int64_t dg_row() const noexcept { return spread_rows<T>(columns_); }
  std::int64_t sums_size() const noexcept {
    return (method_ == ConvolutionMethod::direct ? 1 : winograd::kPoints) * columns_ * sum_row_;
  }

  void bias_sums(const T* dg, std::int64_t line, std::int64_t lines, T* sums, Member member) const noexcept {
    // Pairs of packs, so that each line of a cache is met once.
    const Member::Range range = member.share(columns_, 2 * W);
    for (std::int64_t j = range.begin; j < range.end; j += 2 * W) {
      const bool pair = j + W < range.end;
      const std::int64_t second = pair ? W : 0;
      Pack<T> a = load(sums + j);
      Pack<T> b = load(sums + j + second);
      for (std::int64_t y = 0; y < lines; ++y) {
        const T* from = dg + y * line + j;
        for (std::int64_t x = 0; x < image_.width; ++x, from += columns_) {
          a += load(from);
          b += load(from + second);
        }
      }
      if (pair) store(sums + j + W, b);
      store(sums + j, a);
    }
  }

  ConvolutionMethod method_ = ConvolutionMethod::direct;
  ImageShape image_;
  Taps taps_;
  std::array<ConvolutionInput, 2> inputs_{};
  std::array<std::vector<Run>, 2> runs_;
  std::size_t count_ = 0;
  std::int64_t columns_ = 0;  ///< of dG, in block order
  std::int64_t depth_ = 0;
  std::int64_t row_ = 0;  ///< direct: columns of the sums; else distance of tiles
  std::int64_t sum_row_ = 0;
};

LSTMCORE_END_NAMESPACE
