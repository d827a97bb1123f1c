#include "model/file/json.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <locale>
#include <sstream>
#include <system_error>

#include "model/file/file_error.hpp"

namespace lstmcore::file {
namespace {

constexpr std::uint64_t int64_limit = std::uint64_t{1} << 63;  // magnitude of the smallest std::int64_t

bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }

// Neither direction may depend on the process's locale: a German one would write "0,5".
#if defined(__cpp_lib_to_chars)
std::string double_text(double value) {
  char buffer[40];
  const auto result = std::to_chars(buffer, buffer + sizeof buffer, value);  // shortest text that reads back the same
  return {buffer, result.ptr};
}

bool parse_double(std::string_view text, double& value) {
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  return result.ec == std::errc() && result.ptr == text.data() + text.size() && std::isfinite(value);
}
#else  // standard libraries older than GCC 11's
std::string double_text(double value) {
  std::ostringstream stream;
  stream.imbue(std::locale::classic());
  stream.precision(std::numeric_limits<double>::max_digits10);
  stream << value;
  return stream.str();
}

bool parse_double(std::string_view text, double& value) {
  std::istringstream stream{std::string(text)};
  stream.imbue(std::locale::classic());
  stream >> value;
  return !stream.fail() && stream.peek() == std::istringstream::traits_type::eof() && std::isfinite(value);
}
#endif

void append_quoted(std::string& out, std::string_view text) {
  static constexpr char digits[] = "0123456789abcdef";
  if (!is_utf8(text)) throw JsonError("text is not UTF-8: " + quoted(text));
  out += '"';
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      out += "\\u00";
      out += digits[c >> 4];
      out += digits[c & 15];
    } else {
      out += c;
    }
  }
  out += '"';
}

void append_utf8(std::string& out, std::uint32_t code) {
  const auto tail = [code](int shift) { return static_cast<char>(0x80 | ((code >> shift) & 0x3F)); };
  if (code < 0x80) {
    out += static_cast<char>(code);
  } else if (code < 0x800) {
    out += static_cast<char>(0xC0 | (code >> 6));
    out += tail(0);
  } else if (code < 0x10000) {
    out += static_cast<char>(0xE0 | (code >> 12));
    out += tail(6);
    out += tail(0);
  } else {
    out += static_cast<char>(0xF0 | (code >> 18));
    out += tail(12);
    out += tail(6);
    out += tail(0);
  }
}

}  // namespace

/// Recursive descent; the depth limit bounds the stack (about 20 kB at the limit).
class Json::Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Json run() {
    Json result = value(0);
    skip_space();
    if (at_ < text_.size()) fail("unexpected text after the value");
    return result;
  }

 private:
  [[noreturn]] void fail(const std::string& problem) const { fail(problem, at_); }
  [[noreturn]] void fail(const std::string& problem, std::size_t at) const {
    throw JsonError(problem + " at byte " + std::to_string(at));
  }

  char peek() const noexcept { return at_ < text_.size() ? text_[at_] : '\0'; }

  bool take(char c) noexcept {
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }

  void skip_space() noexcept {
    while (at_ < text_.size() &&
           (text_[at_] == ' ' || text_[at_] == '\t' || text_[at_] == '\n' || text_[at_] == '\r')) {
      ++at_;
    }
  }

  void word(std::string_view expected) {
    if (text_.substr(at_, expected.size()) != expected) fail("unknown word");
    at_ += expected.size();
  }

  Json value(int depth) {
    skip_space();
    if (at_ >= text_.size()) fail("the text ends where a value should be");
    if (++values_ > max_values) fail("more than " + std::to_string(max_values) + " values");
    switch (text_[at_]) {
      case '{':
        return object(depth + 1);
      case '[':
        return array(depth + 1);
      case '"':
        return {string()};
      case 't':
        word("true");
        return {true};
      case 'f':
        word("false");
        return {false};
      case 'n':
        word("null");
        return {};
      default:
        return number();
    }
  }

  Json array(int depth) {
    if (depth > max_depth) fail("nested deeper than " + std::to_string(max_depth) + " levels");
    Array items;
    ++at_;
    skip_space();
    if (take(']')) return {std::move(items)};
    do {
      items.push_back(value(depth));
      skip_space();
    } while (take(','));
    if (!take(']')) fail("expected ',' or ']'");
    return {std::move(items)};
  }

  Json object(int depth) {
    if (depth > max_depth) fail("nested deeper than " + std::to_string(max_depth) + " levels");
    const std::size_t start = at_;
    Object members;
    ++at_;
    skip_space();
    if (take('}')) return {std::move(members)};
    do {
      skip_space();
      if (peek() != '"') fail("expected a name in quotes");
      std::string name = string();
      skip_space();
      if (!take(':')) fail("expected ':'");
      members.push_back({std::move(name), value(depth)});
      skip_space();
    } while (take(','));
    if (!take('}')) fail("expected ',' or '}'");
    // RFC 8259 leaves the meaning of a repeated name open, so two readers could see two different models.
    std::vector<std::string_view> names;
    names.reserve(members.size());
    for (const Member& member : members) names.emplace_back(member.name);
    std::sort(names.begin(), names.end());
    const auto twice = std::adjacent_find(names.begin(), names.end());
    if (twice != names.end()) fail("the name " + quoted(*twice) + " stands twice in the object", start);
    return {std::move(members)};
  }

  std::string string() {
    const std::size_t start = at_++;
    std::string out;
    for (;;) {
      const std::size_t run = at_;
      while (at_ < text_.size() && text_[at_] != '"' && text_[at_] != '\\' &&
             static_cast<unsigned char>(text_[at_]) >= 0x20) {
        ++at_;
      }
      out += text_.substr(run, at_ - run);
      if (at_ >= text_.size()) fail("a string does not end; it starts", start);
      if (text_[at_] == '"') break;
      if (text_[at_] != '\\') fail("unescaped control character in a string");
      escape(out);
    }
    ++at_;
    if (!is_utf8(out)) fail("a string is not UTF-8; it starts", start);
    return out;
  }

  void escape(std::string& out) {
    const std::size_t start = at_++;
    const char kind = peek();
    ++at_;
    switch (kind) {
      case '"':
      case '\\':
      case '/':
        out += kind;
        return;
      case 'b':
        out += '\b';
        return;
      case 'f':
        out += '\f';
        return;
      case 'n':
        out += '\n';
        return;
      case 'r':
        out += '\r';
        return;
      case 't':
        out += '\t';
        return;
      case 'u':
        break;
      default:
        fail("unknown escape", start);
    }
    std::uint32_t code = hex4(start);
    if (code >= 0xDC00 && code <= 0xDFFF) fail("second half of a surrogate pair without the first", start);
    if (code >= 0xD800 && code <= 0xDBFF) {
      if (!take('\\') || !take('u')) fail("first half of a surrogate pair without the second", start);
      const std::uint32_t low = hex4(start);
      if (low < 0xDC00 || low > 0xDFFF) fail("first half of a surrogate pair without the second", start);
      code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    }
    append_utf8(out, code);
  }

  std::uint32_t hex4(std::size_t start) {
    std::uint32_t code = 0;
    for (int i = 0; i < 4; ++i) {
      const char c = peek();
      ++at_;
      std::uint32_t digit = 0;
      if (is_digit(c)) {
        digit = static_cast<std::uint32_t>(c - '0');
      } else if (c >= 'a' && c <= 'f') {
        digit = static_cast<std::uint32_t>(c - 'a' + 10);
      } else if (c >= 'A' && c <= 'F') {
        digit = static_cast<std::uint32_t>(c - 'A' + 10);
      } else {
        fail("\\u needs four hexadecimal digits", start);
      }
      code = code << 4 | digit;
    }
    return code;
  }

  Json number() {
    const std::size_t start = at_;
    const bool negative = take('-');
    const std::size_t first_digit = at_;
    skip_digits();
    if (at_ == first_digit) fail("expected a value", start);
    if (text_[first_digit] == '0' && at_ > first_digit + 1) fail("a number starts with a superfluous 0", start);
    const std::size_t integer_end = at_;
    if (take('.')) need_digits(start);
    if (take('e') || take('E')) {
      if (!take('+')) take('-');
      need_digits(start);
    }
    if (at_ > integer_end) {
      double value = 0.0;
      if (!parse_double(text_.substr(start, at_ - start), value)) fail("a number does not fit a double", start);
      return {value};
    }
    std::uint64_t magnitude = 0;
    const auto result = std::from_chars(text_.data() + first_digit, text_.data() + at_, magnitude);
    if (result.ec != std::errc() || (negative && magnitude > int64_limit))
      fail("an integer does not fit 64 bits", start);
    Json json;
    json.value_ = Integer{magnitude, negative && magnitude > 0};
    return json;
  }

  void skip_digits() noexcept {
    while (is_digit(peek())) ++at_;
  }

  void need_digits(std::size_t start) {
    const std::size_t before = at_;
    skip_digits();
    if (at_ == before) fail("a number lacks digits", start);
  }

  std::string_view text_;
  std::size_t at_ = 0;
  std::size_t values_ = 0;
};

Json::Json(std::int64_t value) noexcept
    : value_(
          Integer{value < 0 ? std::uint64_t{0} - static_cast<std::uint64_t>(value) : static_cast<std::uint64_t>(value),
                  value < 0}) {}

Json Json::parse(std::string_view text) { return Parser(text).run(); }

std::string Json::dump() const {
  std::string out;
  append_to(out);
  return out;
}

void Json::append_to(std::string& out) const {
  if (const auto boolean = as_bool()) {
    out += *boolean ? "true" : "false";
  } else if (const auto* integer = std::get_if<Integer>(&value_)) {
    if (integer->negative) out += '-';
    out += std::to_string(integer->magnitude);
  } else if (const auto* number = std::get_if<double>(&value_)) {
    if (!std::isfinite(*number)) throw JsonError("a number that is not finite has no JSON form");
    const std::string text = double_text(*number);
    out += text;
    if (text.find_first_of(".e") == std::string::npos) out += ".0";
  } else if (const auto* string = as_string()) {
    append_quoted(out, *string);
  } else if (const auto* array = as_array()) {
    out += '[';
    for (std::size_t i = 0; i < array->size(); ++i) {
      if (i > 0) out += ',';
      (*array)[i].append_to(out);
    }
    out += ']';
  } else if (const auto* object = as_object()) {
    out += '{';
    for (std::size_t i = 0; i < object->size(); ++i) {
      if (i > 0) out += ',';
      append_quoted(out, (*object)[i].name);
      out += ':';
      (*object)[i].value.append_to(out);
    }
    out += '}';
  } else {
    out += "null";
  }
}

std::optional<bool> Json::as_bool() const noexcept {
  const auto* value = std::get_if<bool>(&value_);
  return value != nullptr ? std::optional<bool>(*value) : std::nullopt;
}

std::optional<std::int64_t> Json::as_int64() const noexcept {
  const auto* value = std::get_if<Integer>(&value_);
  if (value == nullptr) return std::nullopt;
  if (value->negative) {
    // −2^63 has no positive counterpart, hence the detour.
    if (value->magnitude > int64_limit) return std::nullopt;
    return -static_cast<std::int64_t>(value->magnitude - 1) - 1;
  }
  if (value->magnitude >= int64_limit) return std::nullopt;
  return static_cast<std::int64_t>(value->magnitude);
}

std::optional<std::uint64_t> Json::as_uint64() const noexcept {
  const auto* value = std::get_if<Integer>(&value_);
  if (value == nullptr || value->negative) return std::nullopt;
  return value->magnitude;
}

std::optional<double> Json::as_double() const noexcept {
  if (const auto* value = std::get_if<double>(&value_)) return *value;
  const auto* integer = std::get_if<Integer>(&value_);
  if (integer == nullptr) return std::nullopt;
  const auto magnitude = static_cast<double>(integer->magnitude);
  return integer->negative ? -magnitude : magnitude;
}

const Json* Json::find(std::string_view name) const noexcept {
  const Object* object = as_object();
  if (object == nullptr) return nullptr;
  const auto found =
      std::find_if(object->begin(), object->end(), [name](const Member& member) { return member.name == name; });
  return found == object->end() ? nullptr : &found->value;
}

std::string Json::describe() const {
  if (const std::string* string = as_string()) return "the string " + quoted(*string, 40);
  if (const Array* array = as_array()) return "an array of " + std::to_string(array->size()) + " values";
  if (const Object* object = as_object()) return "an object of " + std::to_string(object->size()) + " members";
  return dump();
}

}  // namespace lstmcore::file
