// Types that every public header of lstmcore shares.
//
// Shape letters used throughout the library:
//   T time steps   N sequences in the batch   I input features   H hidden units   G gates
//   L layers       D directions (1 or 2)      K outputs (classes or targets)
//   M nodes of a forest
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>
#include <variant>
#include <vector>

#if defined(__GNUC__)
#define LSTMCORE_API __attribute__((visibility("default")))
#else
#define LSTMCORE_API
#endif

namespace lstmcore {

/// Element type of weights, inputs, outputs and states.
enum class Dtype { float32, float64 };

/// What the products of recurrent layers compute with. bfloat16: weights, and what they are multiplied with, rounded to
/// bf16 (8 significant bits); sums, states and everything else stay float32, and so do the weights that are trained.
enum class Precision { same_as_dtype, bfloat16 };

/// Bytes per element.
inline std::size_t size_of(Dtype dtype) noexcept { return dtype == Dtype::float32 ? 4 : 8; }

/// Value of one cell option (see `cells()` for the options each cell has).
using Option = std::variant<bool, std::int64_t, double, std::string>;
using Options = std::map<std::string, Option>;

/// A model file that is truncated, inconsistent or not an lstmcore model.
class LSTMCORE_API ModelFileError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Work was stopped by a `Cancel` callback; weights are as after the last whole mini-batch.
class LSTMCORE_API Interrupted : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// One tensor inside a flat parameter buffer.
struct TensorInfo {
  std::string name;                 ///< e.g. "W_l0", "R_l0_reverse", "head_W"
  std::vector<std::int64_t> shape;  ///< row-major
  std::int64_t offset = 0;          ///< first element in the flat buffer

  std::int64_t count() const noexcept {
    std::int64_t n = 1;
    for (std::int64_t extent : shape) n *= extent;
    return n;
  }
};

/// A batch of N sequences of different lengths; borrowed memory.
/// data[n] points to lengths[n] × features elements, row-major, contiguous.
struct Sequences {
  const void* const* data = nullptr;
  const std::int64_t* lengths = nullptr;  ///< each ≥ 1
  std::int64_t count = 0;                 ///< N
  std::int64_t features = 0;              ///< I
  /// codes[n][t] ≥ 0, or null. Steps with the same code promise to have the same data, as rows of an embedding have:
  /// recurrent layers then compute what depends on the data alone once for each code, where that is less work.
  const std::int32_t* const* codes = nullptr;
};

}  // namespace lstmcore
