// Products in bf16: rounding against a plain one, and every kernel bit by bit against float32 products of rounded
// operands.
#include "check.hpp"
#include "kernels/product.hpp"

#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

using namespace lstmcore;

namespace {

constexpr int W = kLanes<float>;

/// What an instruction for pairs does, in plain C++, on machines that have none: two multiply-adds, upper halves first.
struct PlainDot {
  static void add(Pack<float>& acc, bf16::Bits left, bf16::Bits right) noexcept {
    const Pack<float> operands[] = {bf16::upper(left), bf16::upper(right), bf16::lower(left), bf16::lower(right)};
    for (int lane = 0; lane < W; ++lane) {
      acc[lane] = std::fma(operands[0][lane], operands[1][lane], acc[lane]);
      acc[lane] = std::fma(operands[2][lane], operands[3][lane], acc[lane]);
    }
  }
};

/// One that adds up the lower halves only.
struct WrongDot {
  static void add(Pack<float>& acc, bf16::Bits left, bf16::Bits right) noexcept {
    acc += bf16::lower(left) * bf16::lower(right);
  }
};

std::uint32_t bits_of(float value) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

float float_of(std::uint32_t bits) {
  float value = 0.0F;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

/// In double, where halving and comparing are exact.
float plainly_rounded(float value) {
  if (std::isnan(value)) return value;
  const float below = float_of(bits_of(value) & 0xffff0000U);
  const std::uint32_t above_bits = (bits_of(value) & 0xffff0000U) + 0x10000U;
  if (below == value || std::isinf(value)) return below;
  // Beyond the largest finite bf16 the next one would be 2^128.
  const double above = std::isinf(float_of(above_bits)) ? std::copysign(0x1p128, value) : double{float_of(above_bits)};
  const double to_below = std::fabs(double{value} - double{below});
  const double to_above = std::fabs(above - double{value});
  if (to_below != to_above) return to_below < to_above ? below : float_of(above_bits);
  return (bits_of(below) & 0x10000U) == 0 ? below : float_of(above_bits);
}

void test_rounding() {
  std::mt19937 random(1);
  std::vector<float> values = {0.0F,
                               -0.0F,
                               1.0F,
                               1.00390625F,
                               1.01171875F,
                               -1.00390625F,
                               0x1.fffffep127F,
                               -0x1.ff0p127F,
                               std::numeric_limits<float>::infinity(),
                               -std::numeric_limits<float>::infinity()};
  for (int i = 0; i < 40000; ++i) values.push_back(float_of(static_cast<std::uint32_t>(random())));
  for (int i = 0; i < 4000; ++i) {  // ties and their neighbours
    const std::uint32_t tie = (static_cast<std::uint32_t>(random()) & 0xffff0000U) | 0x8000U;
    for (std::uint32_t bits : {tie - 1, tie, tie + 1}) values.push_back(float_of(bits));
  }
  std::vector<float> rounded(values.size());
  bf16::round_row(values.data(), static_cast<std::int64_t>(values.size()), rounded.data());
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (std::isnan(values[i])) {
      CHECK(std::isnan(rounded[i]));
      CHECK_EQ(bits_of(rounded[i]) & 0xffffU, 0U);
    } else {
      CHECK_EQ(bits_of(rounded[i]), bits_of(plainly_rounded(values[i])));
    }
  }
  for (const std::uint32_t nan : {0x7f800001U, 0xff80ffffU, 0x7fffffffU}) {
    float value = float_of(nan);
    bf16::round_row(&value, 1, &value);
    CHECK(std::isnan(value));
  }
  const std::vector<float> part(values.begin(), values.begin() + 3 * W + 1);  // a length that is no whole pack
  std::vector<float> in_place = part;
  in_place.push_back(7.0F);
  bf16::round_row(in_place.data(), static_cast<std::int64_t>(part.size()), in_place.data());
  CHECK(std::memcmp(in_place.data(), rounded.data(), part.size() * sizeof(float)) == 0);
  CHECK_EQ(in_place.back(), 7.0F);
}

std::vector<float> random_numbers(std::mt19937& random, std::int64_t count, float scale = 1.0F) {
  std::normal_distribution<float> normal(0.0F, scale);
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) value = normal(random);
  return values;
}

std::vector<float> rounded(std::vector<float> values) {
  bf16::round_row(values.data(), static_cast<std::int64_t>(values.size()), values.data());
  return values;
}

template <class Dot, int kPacks>
void dots(Start start, std::int64_t rows, std::int64_t depth, const float* a, std::int64_t lda, std::int64_t count,
          const float* pairs, float* c, std::int64_t ldc, const float* bias, bool by_rows) {
  const std::int64_t width = kPacks * W;
  const std::int64_t next = panel_rows(true, depth) * width;
  if (by_rows) {
    if (start == Start::zero) bf16::dot_row_product<Dot, kPacks, Start::zero>(depth, a, count, pairs, next, c, bias);
    if (start == Start::bias) bf16::dot_row_product<Dot, kPacks, Start::bias>(depth, a, count, pairs, next, c, bias);
    if (start == Start::sum) bf16::dot_row_product<Dot, kPacks, Start::sum>(depth, a, count, pairs, next, c, bias);
    return;
  }
  for (std::int64_t p = 0; p < count; ++p) {
    bf16::dot_product<Dot, kPacks>(start, rows, depth, a, lda, pairs + p * next, c + p * width, ldc, bias + p * width);
  }
}

void test_products(int gates, std::int64_t hidden, std::int64_t depth, std::int64_t rows, Start start) {
  std::mt19937 random(static_cast<unsigned>(depth * 31 + rows));
  const std::int64_t blocks = blocks_of<float>(hidden);
  const std::int64_t width = std::int64_t{gates} * W;
  const std::int64_t lda = depth + 3;
  const std::int64_t ldc = blocks * width + 1;
  const std::vector<float> w = random_numbers(random, gates * hidden * depth);
  const std::vector<float> a = rounded(random_numbers(random, rows * lda));
  const std::vector<float> bias = random_numbers(random, blocks * width);
  const std::vector<float> before = random_numbers(random, rows * ldc);

  const std::vector<float> rounded_w = rounded(w);
  const std::int64_t half = panel_rows(true, depth);
  CHECK_EQ(half, (depth + 1) / 2);
  std::vector<float> panels(static_cast<std::size_t>(blocks * depth * width));
  std::vector<float> pairs(static_cast<std::size_t>(blocks * half * width));
  const unsigned all = (1U << gates) - 1U;
  for (std::int64_t b = 0; b < blocks; ++b) {
    pack_gate_panel<float>(gates, all, rounded_w.data(), depth, hidden, depth, b, panels.data() + b * depth * width);
    bf16::pack_gate_panel<float>(gates, all, w.data(), depth, hidden, depth, b, pairs.data() + b * half * width);
  }

  std::vector<float> expected = before;
  std::vector<float> found = before;
  for (std::int64_t b = 0; b < blocks; ++b) {
    const float* const from = bias.data() + b * width;
    panel_product<float>(gates, start, rows, depth, a.data(), lda, panels.data() + b * depth * width,
                         expected.data() + b * width, ldc, from);
    weight_product<float>(true, gates, start, rows, depth, a.data(), lda, pairs.data() + b * half * width,
                          found.data() + b * width, ldc, from);
  }
  CHECK(std::memcmp(found.data(), expected.data(), found.size() * sizeof(float)) == 0);
  constexpr auto kDots = std::array{&dots<PlainDot, 1>, &dots<PlainDot, 2>, &dots<PlainDot, 3>, &dots<PlainDot, 4>};
  for (const bool by_rows : {false, true}) {
    if (by_rows && rows != 1) continue;
    found = before;
    kDots[static_cast<std::size_t>(gates - 1)](start, rows, depth, a.data(), lda, blocks, pairs.data(), found.data(),
                                               ldc, bias.data(), by_rows);
    CHECK(std::memcmp(found.data(), expected.data(), found.size() * sizeof(float)) == 0);
  }
  if (rows != 1) return;
  found = before;
  row_product<float>(gates, start, true)(depth, a.data(), blocks, pairs.data(), half * width, found.data(),
                                         bias.data());
  CHECK(std::memcmp(found.data(), expected.data(), static_cast<std::size_t>(blocks * width) * sizeof(float)) == 0);
}

}  // namespace

int main() {
  CHECK(bf16::bf16_dot_works<PlainDot>());
  CHECK(!bf16::bf16_dot_works<WrongDot>());
  test_rounding();
  for (int gates = 1; gates <= 4; ++gates) {
    for (const std::int64_t hidden : {1, 7, 16, 61, 130}) {
      for (const std::int64_t depth : {1, 2, 5, 64, 65, 301, 1030}) {
        for (const std::int64_t rows : {1, 2, 3, 12, 29, depth == 65 ? 100 : 13}) {
          for (const Start start : {Start::zero, Start::bias, Start::sum}) {
            test_products(gates, hidden, depth, rows, start);
          }
        }
      }
    }
  }
  test_products(2, 40, 8205, 1, Start::bias);
  return check::result();
}
