// The JSON reader and writer of model files: what is JSON, what is not, and that values come back as they went.
#include "model/file/json.hpp"

#include <clocale>
#include <cmath>
#include <limits>
#include <optional>
#include <string>

#include "check.hpp"

using lstmcore::file::Json;
using lstmcore::file::JsonError;

namespace {

// By value: CHECK_EQ keeps references, which must not outlive the parsed text.
template <class T>
T checked(const std::optional<T>& value) {
  if (!value) throw JsonError("not of that kind");
  return *value;
}
std::int64_t int64(const Json& json) { return checked(json.as_int64()); }
std::uint64_t uint64(const Json& json) { return checked(json.as_uint64()); }
double number(const Json& json) { return checked(json.as_double()); }
std::string string(const Json& json) {
  if (json.as_string() == nullptr) throw JsonError("not a string: " + json.describe());
  return *json.as_string();
}

void test_values() {
  CHECK(Json::parse("null").is_null());
  CHECK(Json::parse(" \t\r\n true ").as_bool() == true);
  CHECK(Json::parse("false").as_bool() == false);
  CHECK_EQ(string(Json::parse("\"\"")), "");
  CHECK(Json::parse("[]").as_array()->empty());
  CHECK(Json::parse("{}").as_object()->empty());
  const Json json = Json::parse(R"({"a": [1, -2.5, "x", {"b": null}], "": false})");
  CHECK_EQ(json.as_object()->size(), 2U);
  CHECK_EQ(int64((*json.find("a")->as_array())[0]), 1);
  CHECK_EQ(number((*json.find("a")->as_array())[1]), -2.5);
  CHECK((*json.find("a")->as_array())[3].find("b")->is_null());
  CHECK(json.find("")->as_bool() == false);
  CHECK(json.find("missing") == nullptr);
  CHECK(Json::parse("1").find("a") == nullptr);
}

void test_kinds_do_not_mix() {
  CHECK(!Json::parse("1").as_bool());
  CHECK(!Json::parse("true").as_int64());
  CHECK(!Json::parse("\"1\"").as_double());
  CHECK(!Json::parse("1.0").as_int64());
  CHECK(!Json::parse("1e2").as_uint64());
  CHECK(!Json::parse("-1").as_uint64());
  CHECK(Json::parse("1").as_string() == nullptr);
  CHECK(Json::parse("{}").as_array() == nullptr);
  CHECK(Json::parse("[]").as_object() == nullptr);
}

void test_integers() {
  CHECK_EQ(int64(Json::parse("9223372036854775807")), std::numeric_limits<std::int64_t>::max());
  CHECK_EQ(int64(Json::parse("-9223372036854775808")), std::numeric_limits<std::int64_t>::min());
  CHECK(!Json::parse("9223372036854775808").as_int64());
  CHECK_EQ(uint64(Json::parse("18446744073709551615")), std::numeric_limits<std::uint64_t>::max());
  CHECK_EQ(int64(Json::parse("-0")), 0);
  CHECK_EQ(uint64(Json::parse("-0")), 0U);
  CHECK_EQ(int64(Json::parse("9007199254740993")), 9007199254740993);  // not a double
  CHECK_THROWS_WITH(Json::parse("18446744073709551616"), JsonError, "does not fit 64 bits at byte 0");
  CHECK_THROWS_WITH(Json::parse("[-9223372036854775809]"), JsonError, "at byte 1");
  for (const std::int64_t value : {std::numeric_limits<std::int64_t>::min(), std::int64_t{-1}, std::int64_t{0},
                                   std::numeric_limits<std::int64_t>::max()}) {
    CHECK_EQ(int64(Json::parse(Json(value).dump())), value);
  }
  CHECK_EQ(Json(std::numeric_limits<std::uint64_t>::max()).dump(), "18446744073709551615");
}

void test_doubles_come_back_to_the_last_bit() {
  const double values[] = {0.0,
                           -0.0,
                           1.0,
                           -3.0,
                           0.1,
                           1.0 / 3.0,
                           1e22,
                           1e300,
                           123456789012345680.0,
                           -2.5e-7,
                           std::numeric_limits<double>::max(),
                           std::numeric_limits<double>::min(),
                           std::numeric_limits<double>::denorm_min(),
                           static_cast<double>(0.1F),
                           std::nextafter(1.0, 2.0)};
  for (const double value : values) {
    const Json back = Json::parse(Json(value).dump());
    CHECK(!back.as_int64());  // stays a double even when it is whole
    const double found = number(back);
    CHECK(found == value && std::signbit(found) == std::signbit(value));
  }
  CHECK_THROWS_WITH(Json(std::numeric_limits<double>::infinity()).dump(), JsonError, "not finite");
  CHECK_THROWS_WITH(Json(std::nan("")).dump(), JsonError, "not finite");
  CHECK_THROWS_WITH(Json::parse("1e999"), JsonError, "does not fit a double");
  CHECK_THROWS_WITH(Json::parse("-1e999"), JsonError, "does not fit a double");
}

void test_strings() {
  CHECK_EQ(string(Json::parse(R"("\"\\\/\b\f\n\r\t")")), "\"\\/\b\f\n\r\t");
  CHECK_EQ(string(Json::parse(R"("\u0041\u00e9\u20ac\ud83d\ude00")")), "Aé€😀");
  CHECK_EQ(string(Json::parse("\"é€😀\"")), "é€😀");
  CHECK_EQ(string(Json::parse(R"("a\u0000b")")).size(), 3U);
  std::string every;
  for (int c = 0; c < 127; ++c) every += static_cast<char>(c);
  every += "ß漢😀";
  CHECK_EQ(string(Json::parse(Json(every).dump())), every);
  CHECK_EQ(Json("a\n\x01\"\\").dump(), R"("a\u000a\u0001\"\\")");

  CHECK_THROWS_WITH(Json::parse("\"abc"), JsonError, "does not end; it starts at byte 0");
  CHECK_THROWS_WITH(Json::parse("\"a\nb\""), JsonError, "control character in a string at byte 2");
  CHECK_THROWS_WITH(Json::parse(R"("\x41")"), JsonError, "unknown escape at byte 1");
  CHECK_THROWS_WITH(Json::parse(R"("\u12g4")"), JsonError, "four hexadecimal digits");
  CHECK_THROWS_WITH(Json::parse(R"("\u12)"), JsonError, "four hexadecimal digits");
  CHECK_THROWS_WITH(Json::parse("\"\\"), JsonError, "unknown escape");
  CHECK_THROWS_WITH(Json::parse(R"("\ud83d")"), JsonError, "without the second");
  CHECK_THROWS_WITH(Json::parse(R"("\ud83d\u0041")"), JsonError, "without the second");
  CHECK_THROWS_WITH(Json::parse(R"("\ude00")"), JsonError, "without the first");
}

void test_utf8() {
  const char* bad[] = {
      "\x80",              // continuation byte alone
      "\xc3",              // cut short
      "\xc0\xaf",          // overlong, 2 bytes
      "\xe0\x80\xaf",      // overlong, 3 bytes
      "\xf0\x80\x80\xaf",  // overlong, 4 bytes
      "\xed\xa0\x80",      // surrogate
      "\xf4\x90\x80\x80",  // above U+10FFFF
      "\xf5\x80\x80\x80",
      "\xff",
      "\xe2\x28\xa1",
      "\xf0\x9f\x98",
  };
  for (const char* bytes : bad) {
    CHECK_THROWS_WITH(Json::parse("\"" + std::string(bytes) + "\""), JsonError, "not UTF-8");
    CHECK_THROWS_WITH(Json(std::string(bytes)).dump(), JsonError, "not UTF-8");
  }
  for (const char* bytes : {"\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf", "\xef\xbf\xbf", "\xf0\x90\x80\x80",
                            "\xf4\x8f\xbf\xbf"}) {
    CHECK_EQ(string(Json::parse("\"" + std::string(bytes) + "\"")), bytes);
  }
}

void test_not_json() {
  const char* bad[] = {"",         " ",          "nul",    "True",      "nan",   "Infinity", "+1",
                       "01",       "-",          "1.",     ".5",        "1e",    "1e+",      "0x10",
                       "1 2",      "[1",         "[1,]",   "[,1]",      "[1 2]", "{",        "{\"a\"",
                       "{\"a\":}", "{\"a\":1,}", "{a:1}",  "{\"a\" 1}", "{1:2}", "{\"a\":1", "'a'",
                       "]",        "}",          "/*x*/1", "[1]]",      "-01",   "1.e5",     "truefalse"};
  for (const char* text : bad) CHECK_THROWS_WITH(Json::parse(text), JsonError, "at byte");
  CHECK_THROWS_WITH(Json::parse(R"({"a":1,"b":2,"a":3})"), JsonError, "'a' stands twice in the object at byte 0");
  CHECK_THROWS_WITH(Json::parse(R"({"a":1,"\u0061":3})"), JsonError, "stands twice");
  CHECK_THROWS_WITH(Json::parse(std::string("1\0", 2)), JsonError, "unexpected text after the value at byte 1");
  CHECK_THROWS_WITH(Json::parse(std::string("[1,\0]", 5)), JsonError, "at byte 3");
}

void test_every_prefix_is_an_error() {
  const std::string text = R"({"a":[1,-2.5e3,"x\u00e9\ud83d\ude00",true,null,{"b":[[]]}]})";
  CHECK(Json::parse(text).as_object() != nullptr);
  for (std::size_t length = 0; length < text.size(); ++length) {
    CHECK_THROWS(Json::parse(std::string_view(text).substr(0, length)), JsonError);
  }
}

void test_limits() {
  const auto nested = [](int depth, const char* open, const char* close) {
    std::string text;
    for (int i = 0; i < depth; ++i) text += open;
    text += '0';
    for (int i = 0; i < depth; ++i) text += close;
    return text;
  };
  CHECK(Json::parse(nested(Json::max_depth, "[", "]")).as_array() != nullptr);
  CHECK(Json::parse(nested(Json::max_depth, "{\"a\":", "}")).as_object() != nullptr);
  CHECK_THROWS_WITH(Json::parse(nested(Json::max_depth + 1, "[", "]")), JsonError, "deeper than 64 levels at byte 64");
  CHECK_THROWS_WITH(Json::parse(nested(Json::max_depth + 1, "{\"a\":", "}")), JsonError, "deeper than 64 levels");
  CHECK_THROWS_WITH(Json::parse(std::string(10'000'000, '[')), JsonError, "deeper than 64 levels");
  std::string many = "[0";
  for (std::size_t i = 0; i < Json::max_values; ++i) many += ",0";
  CHECK_THROWS_WITH(Json::parse(many + "]"), JsonError, "more than 4194304 values");
}

void test_locale_does_not_matter() {
  for (const char* name : {"de_DE.UTF-8", "de_DE", "fr_FR.UTF-8"}) {
    if (std::setlocale(LC_ALL, name) != nullptr) std::printf("with locale %s\n", name);
    CHECK_EQ(Json(0.5).dump(), "0.5");
    CHECK_EQ(number(Json::parse("0.5")), 0.5);
  }
  std::setlocale(LC_ALL, "C");
}

void test_describe() {
  CHECK_EQ(Json::parse("\"a\\nb\"").describe(), "the string 'a\\x0ab'");
  CHECK_EQ(Json::parse("[1,2]").describe(), "an array of 2 values");
  CHECK_EQ(Json::parse("{}").describe(), "an object of 0 members");
  CHECK_EQ(Json::parse("-3").describe(), "-3");
  CHECK_EQ(Json::parse("null").describe(), "null");
}

}  // namespace

int main() {
  test_values();
  test_kinds_do_not_mix();
  test_integers();
  test_doubles_come_back_to_the_last_bit();
  test_strings();
  test_utf8();
  test_not_json();
  test_every_prefix_is_an_error();
  test_limits();
  test_locale_does_not_matter();
  test_describe();
  return check::result();
}
