// Between planes, one for each channel, and pixels with their channels side by side.
#pragma once

#include "math/pack.hpp"

#include <utility>

LSTMCORE_BEGIN_NAMESPACE

namespace planes_detail {

template <class T, std::size_t... kIndex>
inline Pack<T> pick(Pack<T> a, Pack<T> b, std::index_sequence<kIndex...>) noexcept {
#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define LSTMCORE_SHUFFLEVECTOR 1
#endif
#endif
#ifdef LSTMCORE_SHUFFLEVECTOR
  return __builtin_shufflevector(a, b, kIndex...);
#else  // GCC 11
  using Lane = std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t>;
  return __builtin_shuffle(a, b, typename PackTypes<T>::Integer{static_cast<Lane>(kIndex)...});
#endif
}

/// One exchange of a transposition: blocks of kStep lanes of two rows kStep apart.
template <class T, std::size_t kStep, std::size_t... i>
inline void exchange(Pack<T>& a, Pack<T>& b, std::index_sequence<i...>) noexcept {
  constexpr std::size_t W = kLanes<T>;
  const Pack<T> low = pick<T>(a, b, std::index_sequence<(i / kStep % 2 == 0 ? i : i - kStep + W)...>{});
  b = pick<T>(a, b, std::index_sequence<(i / kStep % 2 == 0 ? i + kStep : i + W)...>{});
  a = low;
}

template <class T, std::size_t kStep = 1>
inline void transpose(Pack<T>* rows) noexcept {
  constexpr std::size_t W = kLanes<T>;
  if constexpr (kStep < W) {
    for (std::size_t r = 0; r < W; ++r) {
      if (r / kStep % 2 == 0) exchange<T, kStep>(rows[r], rows[r + kStep], std::make_index_sequence<W>{});
    }
    transpose<T, 2 * kStep>(rows);
  }
}

/// f(plane, pixel, whole): squares of W × W where they are whole, else single elements.
template <int W, class F>
inline void squares(std::int64_t channels, std::int64_t pixels, F&& f) noexcept {
  for (std::int64_t c = 0; c < channels; c += W) {
    std::int64_t x = 0;
    if (c + W <= channels) {
      for (; x + W <= pixels; x += W) f(c, x, true);
    }
    for (std::int64_t k = c; k < channels && k < c + W; ++k) {
      for (std::int64_t rest = x; rest < pixels; ++rest) f(k, rest, false);
    }
  }
}

}  // namespace planes_detail

/// A line of `pixels` pixels of each plane, planes `distance` elements apart → pixels `channels_apart` elements apart.
template <class T>
void planes_to_pixels(const T* planes, std::int64_t distance, std::int64_t channels, std::int64_t pixels, T* to,
                      std::int64_t channels_apart) noexcept {
  constexpr int W = kLanes<T>;
  planes_detail::squares<W>(channels, pixels, [&](std::int64_t c, std::int64_t x, bool whole) {
    if (!whole) {
      to[x * channels_apart + c] = planes[c * distance + x];
      return;
    }
    Pack<T> rows[W];
    for (int i = 0; i < W; ++i) rows[i] = load(planes + (c + i) * distance + x);
    planes_detail::transpose<T>(rows);
    for (int i = 0; i < W; ++i) store(to + (x + i) * channels_apart + c, rows[i]);
  });
}

/// The way back.
template <class T>
void pixels_to_planes(const T* from, std::int64_t channels_apart, std::int64_t channels, std::int64_t pixels, T* planes,
                      std::int64_t distance) noexcept {
  constexpr int W = kLanes<T>;
  planes_detail::squares<W>(channels, pixels, [&](std::int64_t c, std::int64_t x, bool whole) {
    if (!whole) {
      planes[c * distance + x] = from[x * channels_apart + c];
      return;
    }
    Pack<T> rows[W];
    for (int i = 0; i < W; ++i) rows[i] = load(from + (x + i) * channels_apart + c);
    planes_detail::transpose<T>(rows);
    for (int i = 0; i < W; ++i) store(planes + (c + i) * distance + x, rows[i]);
  });
}

LSTMCORE_END_NAMESPACE
