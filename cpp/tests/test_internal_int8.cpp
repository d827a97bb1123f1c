// 8-bit products: sums against 64-bit integers for every tile, extremes included; rounding of weights and activations.
#include "check.hpp"
#include "kernels/int8_product.hpp"

#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

using namespace lstmcore;

namespace {

constexpr int W = kLanes<float>;

/// What VNNI does, in plain C++: q + 128 times w, and the sums taken away, on machines that have no such instruction.
struct OffsetDot {
  static constexpr Plane kPlane = Plane::offset;
  static constexpr int kFullRows = 3, kStripRows = 4, kStripPacks = 2;
  using Acc = IntPack;
  using Left = const std::uint8_t*;
  using Right = const std::int8_t*;
  static Acc start(const std::int32_t* minus_sums, std::int32_t) noexcept {
    IntPack acc;
    std::memcpy(&acc, minus_sums, sizeof acc);
    return acc;
  }
  static Left left(const std::int8_t*, const std::uint8_t* plane) noexcept { return plane; }
  static Right right(const std::int8_t* w) noexcept { return w; }
  static void add(Acc& acc, Left q, Right w) noexcept {
    for (int lane = 0; lane < W; ++lane) {
      for (int k = 0; k < 4; ++k) acc[lane] += std::int32_t{q[k]} * w[4 * lane + k];
    }
  }
  static IntPack result(Acc acc) noexcept { return acc; }
};

struct Rounded {
  Rounded(std::int64_t rows, std::int64_t depth)
      : stride(Int8Rows::stride_for(depth)),
        q(static_cast<std::size_t>(rows * stride)),
        plane(q.size()),
        scale(static_cast<std::size_t>(rows)),
        negative(scale.size()) {}
  Int8Rows view() { return {q.data(), plane.data(), scale.data(), negative.data(), stride}; }
  /// An integer as it was rounded, from the planes.
  int at(bool magnitudes, std::int64_t row, std::int64_t k) const {
    const auto i = static_cast<std::size_t>(row * stride + k);
    return !magnitudes ? q[i] : q[i] < 0 ? -int{plane[i]} : int{plane[i]};
  }

  std::int64_t stride;
  std::vector<std::int8_t> q;
  std::vector<std::uint8_t> plane;
  std::vector<float> scale;
  std::vector<std::int32_t> negative;
};

struct Case : Int8Kernel {
  bool magnitudes;  ///< how it keeps integers
};

struct Panel {
  Panel(int gates, const std::vector<float>& w, std::int64_t columns, std::int64_t hidden, std::int64_t first,
        std::int64_t depth)
      : weights(static_cast<std::size_t>(Int8Panels::block_size(gates, depth))),
        scale(static_cast<std::size_t>(gates * W)),
        minus_sums(scale.size()) {
    pack_int8_panel(gates, w.data(), columns, hidden, first, depth, 0, weights.data(), scale.data(), minus_sums.data());
  }
  std::vector<std::int8_t> weights;
  std::vector<float> scale;
  std::vector<std::int32_t> minus_sums;
};

/// Whole numbers that round to themselves: every row holds 127, so that its scale is 1.
std::vector<float> whole_numbers(std::int64_t rows, std::int64_t columns, bool extreme, std::mt19937& random) {
  std::vector<float> values(static_cast<std::size_t>(rows * columns));
  for (std::size_t i = 0; i < values.size(); ++i) {
    const int value = static_cast<int>(random() % 255) - 127;
    values[i] = static_cast<float>(extreme ? (value < 0 ? -127 : 127) : value);
    if (static_cast<std::int64_t>(i) % columns == columns / 2) values[i] = value < 0 ? -127.0F : 127.0F;
  }
  return values;
}

/// Two segments side by side, columns [first, depth) of them times one block of `gates` gates of `hidden` units.
void test_sums(const Case& kernel, int gates, std::int64_t hidden, std::int64_t rows, std::int64_t depth,
               std::int64_t first, bool extreme, std::mt19937& random) {
  const std::vector<float> a = whole_numbers(rows, depth, extreme, random);
  const std::vector<float> w = whole_numbers(gates * hidden, depth, extreme, random);
  const Panel panel(gates, w, depth, hidden, first, depth - first);
  Rounded rounded(rows, depth);
  const std::int64_t half = depth / 2;
  const Rows<const float> segments[2] = {{a.data(), depth}, {a.data() + half, depth}};
  const std::int64_t depths[2] = {half, depth - half};
  Int8Rows view = rounded.view();
  kernel.quantise(rows, segments, depths, 2, view);
  for (std::int64_t n = 0; n < rows; ++n) {
    CHECK_EQ(rounded.scale[static_cast<std::size_t>(n)], 1.0F);
    for (std::int64_t k = 0; k < depth; ++k) {
      CHECK_EQ(static_cast<float>(rounded.at(kernel.magnitudes, n, k)), a[static_cast<std::size_t>(n * depth + k)]);
    }
  }
  const std::int64_t width = gates * W;
  std::vector<float> bias(static_cast<std::size_t>(width), 3.0F);
  for (const Start start : {Start::zero, Start::bias, Start::sum}) {
    std::vector<float> c(static_cast<std::size_t>(rows * width), 5.0F);
    kernel.product(gates, start, rows, view, first, depth - first, panel.weights.data(), panel.scale.data(),
                   panel.minus_sums.data(), c.data(), width, start == Start::bias ? bias.data() : nullptr);
    const float from = start == Start::zero ? 0.0F : start == Start::bias ? 3.0F : 5.0F;
    for (std::int64_t n = 0; n < rows; ++n) {
      for (int gate = 0; gate < gates; ++gate) {
        for (std::int64_t unit = 0; unit < std::min<std::int64_t>(W, hidden); ++unit) {
          std::int64_t sum = 0;
          for (std::int64_t k = first; k < depth; ++k) {
            sum += static_cast<std::int64_t>(a[static_cast<std::size_t>(n * depth + k)]) *
                   static_cast<std::int64_t>(w[static_cast<std::size_t>((gate * hidden + unit) * depth + k)]);
          }
          CHECK_EQ(c[static_cast<std::size_t>(n * width + gate * W + unit)], from + static_cast<float>(sum));
        }
      }
    }
  }
}

void test_kernel(const Case& kernel) {
  std::mt19937 random(1);
  for (std::int64_t depth = 1; depth <= 70; ++depth) {
    test_sums(kernel, 4, 5, 1 + depth % 7, depth, 0, false, random);
    test_sums(kernel, 1 + static_cast<int>(depth % 4), 70, 13, depth, depth / 3, depth % 2 == 0, random);
  }
  for (std::int64_t rows = 1; rows <= 14; ++rows) {
    for (int gates = 1; gates <= 4; ++gates) test_sums(kernel, gates, W, rows, 33, 0, true, random);
  }
  // As large as float32 holds exactly, and as long as rows may be: 16 bits have long run over, 32 have not.
  test_sums(kernel, 4, W, 3, 1040, 0, true, random);
  const std::int64_t longest = std::int64_t{1} << 17;
  const std::vector<float> a(static_cast<std::size_t>(longest), -127.0F);
  const std::vector<float> w(static_cast<std::size_t>(longest), 127.0F);
  const Panel panel(1, w, longest, 1, 0, longest);
  Rounded rounded(1, longest);
  const Rows<const float> segment{a.data(), longest};
  Int8Rows view = rounded.view();
  kernel.quantise(1, &segment, &longest, 1, view);
  std::vector<float> c(static_cast<std::size_t>(W));
  kernel.product(1, Start::zero, 1, view, 0, longest, panel.weights.data(), panel.scale.data(), panel.minus_sums.data(),
                 c.data(), W, nullptr);
  CHECK_EQ(c[0], -static_cast<float>(longest * 127 * 127));
}

void test_activations(const Case& kernel) {
  const std::int64_t depth = 19;
  const float infinity = std::numeric_limits<float>::infinity();
  const std::vector<float> firsts = {0.0F, 1e-33F, 1e-45F, 3e38F, infinity, -infinity, std::nanf(""), 0.25F};
  const auto rows = static_cast<std::int64_t>(firsts.size());
  std::vector<float> a(static_cast<std::size_t>(rows * depth), 0.0F);
  for (std::size_t n = 0; n < firsts.size(); ++n) a[n * static_cast<std::size_t>(depth)] = firsts[n];
  // Halves of the last row's scale, which are rounded to even: 0.25/127 is one step.
  for (int k = 1; k < 5; ++k)
    a[a.size() - 19 + static_cast<std::size_t>(k)] = (static_cast<float>(k) + 0.5F) * 0.25F / 127;
  Rounded rounded(rows, depth);
  const Rows<const float> segment{a.data(), depth};
  Int8Rows view = rounded.view();
  kernel.quantise(rows, &segment, &depth, 1, view);
  const std::vector<float> w(static_cast<std::size_t>(depth), 1.0F);
  const Panel panel(1, w, depth, 1, 0, depth);
  std::vector<float> c(static_cast<std::size_t>(rows * W));
  kernel.product(1, Start::zero, rows, view, 0, depth, panel.weights.data(), panel.scale.data(),
                 panel.minus_sums.data(), c.data(), W, nullptr);
  const auto first = [&](std::size_t n) { return c[n * static_cast<std::size_t>(W)]; };
  for (std::size_t n = 0; n < 3; ++n) CHECK_EQ(first(n), 0.0F);
  CHECK_NEAR(first(3) / 3e38F, 1.0F, 1e-5);
  for (std::size_t n = 4; n < 7; ++n) CHECK(std::isnan(first(n)));
  for (int k = 1; k < 5; ++k) {
    const float v = a[a.size() - 19 + static_cast<std::size_t>(k)] * (127.0F / 0.25F);
    CHECK_EQ(rounded.at(kernel.magnitudes, rows - 1, k), static_cast<int>(std::nearbyint(v)));
  }
}

void test_weights() {
  std::mt19937 random(2);
  std::normal_distribution<float> normal;
  for (int trial = 0; trial < 2000; ++trial) {
    std::vector<float> row(static_cast<std::size_t>(1 + trial % 70));
    const float size = std::ldexp(1.0F, static_cast<int>(random() % 160) - 80);
    for (float& v : row) v = size * normal(random);
    const auto count = static_cast<std::int64_t>(row.size());
    const float scale = int8::row_scale(row.data(), count);
    std::vector<float> rounded = row;
    int8::round_row(rounded.data(), count);
    // Once more changes nothing: not the numbers, not the scale, not the integers.
    std::vector<float> again = rounded;
    int8::round_row(again.data(), count);
    CHECK(again == rounded);
    CHECK_EQ(int8::row_scale(rounded.data(), count), scale);
    int largest = 0;
    for (std::size_t k = 0; k < row.size(); ++k) {
      const std::int8_t value = int8::row_integer(row[k], scale);
      CHECK_EQ(int8::row_integer(rounded[k], scale), value);
      CHECK(std::fabs(rounded[k] - row[k]) <= 0.5001F * scale);
      largest = std::max(largest, std::abs(int{value}));
    }
    CHECK_EQ(largest, 127);
  }
  std::vector<float> zeros = {0.0F, -1e-35F, 1e-40F};
  CHECK_EQ(int8::row_scale(zeros.data(), 3), 0.0F);
  int8::round_row(zeros.data(), 3);
  for (const float v : zeros) CHECK_EQ(v, 0.0F);
  const std::vector<float> bad = {1.0F, std::nanf(""), 2.0F};
  CHECK(std::isnan(int8::row_scale(bad.data(), 3)));
  CHECK_EQ(int{int8::row_integer(1.0F, std::nanf(""))}, 0);
}

template <class Dot>
constexpr Case case_of() {
  return {{&int8_quantise<Dot>, &int8_product<Dot>}, Dot::kPlane == Plane::magnitude};
}

}  // namespace

int main() {
  const Case chosen = {int8_kernel(),
                       int8_kernel().product == case_of<PairDot>().product && case_of<PairDot>().magnitudes};
  for (const Case& kernel : {chosen, case_of<PairDot>(), case_of<OffsetDot>()}) {
    test_kernel(kernel);
    test_activations(kernel);
  }
  test_weights();
  return check::result();
}
