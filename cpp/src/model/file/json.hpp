// JSON (RFC 8259) for the header of a model file.
//
// Why not a library: installing lstmcore needs a compiler and Eigen, nothing else, and the input is hostile, so limits
// that general parsers leave open are part of this one's contract: depth, number of values, duplicate names, integers
// that do not fit, invalid UTF-8 and lone surrogates are all errors. What is needed is small enough to test completely.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace lstmcore::file {

/// Text that is not JSON, or beyond the limits; the message ends with the byte offset.
class JsonError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// One JSON value.
class Json {
 public:
  using Array = std::vector<Json>;
  struct Member;
  using Object = std::vector<Member>;  ///< in the order of the text

  /// Arrays and objects inside one another; deeper text is an error.
  static constexpr int max_depth = 64;
  /// Values in one text. A value takes some 20 times the memory of its shortest text, so that the length of the text
  /// alone would be a weak bound.
  static constexpr std::size_t max_values = std::size_t{1} << 22;

  Json() noexcept = default;                                             ///< null
  Json(bool value) noexcept : value_(value) {}                           // NOLINT(google-explicit-constructor)
  Json(std::int64_t value) noexcept;                                     // NOLINT(google-explicit-constructor)
  Json(std::uint64_t value) noexcept : value_(Integer{value, false}) {}  // NOLINT(google-explicit-constructor)
  Json(double value) noexcept : value_(value) {}                         // NOLINT(google-explicit-constructor)
  Json(std::string value) noexcept : value_(std::move(value)) {}         // NOLINT(google-explicit-constructor)
  Json(const char* value) : value_(std::string(value)) {}                // NOLINT(google-explicit-constructor)
  Json(Array value) noexcept : value_(std::move(value)) {}               // NOLINT(google-explicit-constructor)
  Json(Object value) noexcept : value_(std::move(value)) {}              // NOLINT(google-explicit-constructor)

  /// Throws JsonError.
  static Json parse(std::string_view text);
  /// Compact text that parse() turns back into the same value, to the last bit of every number: a double always keeps a
  /// point or an exponent. Throws JsonError for numbers that are not finite and for strings that are not UTF-8.
  std::string dump() const;

  /// The value when it is of that kind, else nothing. A number without point and exponent is an integer; as_double()
  /// takes both kinds, the integer ones only what fits.
  bool is_null() const noexcept { return std::holds_alternative<std::monostate>(value_); }
  std::optional<bool> as_bool() const noexcept;
  std::optional<std::int64_t> as_int64() const noexcept;
  std::optional<std::uint64_t> as_uint64() const noexcept;
  std::optional<double> as_double() const noexcept;
  const std::string* as_string() const noexcept { return std::get_if<std::string>(&value_); }
  const Array* as_array() const noexcept { return std::get_if<Array>(&value_); }
  const Object* as_object() const noexcept { return std::get_if<Object>(&value_); }
  /// Member of an object, or nullptr.
  const Json* find(std::string_view name) const noexcept;

  /// "a string", "-3", "an array of 2 values", …: for "expected …, found …".
  std::string describe() const;

 private:
  struct Integer {
    std::uint64_t magnitude;
    bool negative;
  };
  class Parser;
  void append_to(std::string& out) const;

  std::variant<std::monostate, bool, Integer, double, std::string, Array, Object> value_;
};

struct Json::Member {
  std::string name;
  Json value;
};

}  // namespace lstmcore::file
