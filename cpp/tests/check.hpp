// Assertions for the C++ tests: a failed one prints where, what and the values, the test goes on, and main() returns
// check::result(). assert() would vanish from release builds, which are what the tests must run on.
#pragma once

#include <cmath>
#include <cstdio>
#include <exception>
#include <sstream>
#include <string>

namespace check {

inline int failures = 0;
inline int passed = 0;

inline void report(bool ok, const char* file, int line, const std::string& what) {
  ok ? ++passed : ++failures;
  if (!ok) std::fprintf(stderr, "%s:%d: failed: %s\n", file, line, what.c_str());
}

template <class A, class B>
std::string values(const char* a_text, const char* relation, const char* b_text, const A& a, const B& b) {
  std::ostringstream out;
  out.precision(17);
  out << a_text << ' ' << relation << ' ' << b_text << " (left: " << a << ", right: " << b << ')';
  return out.str();
}

/// |a − b| ≤ tolerance · max(1, |b|); false for NaN.
inline bool close(double a, double b, double tolerance) {
  return std::abs(a - b) <= tolerance * std::fmax(1.0, std::abs(b));
}

/// What main() returns. A test without a single check is a failure: it shows nothing.
inline int result() {
  std::printf("%d checks passed, %d failed\n", passed, failures);
  return failures == 0 && passed > 0 ? 0 : 1;
}

/// ctest counts a test that returns this as skipped.
constexpr int skipped = 77;

}  // namespace check

#define CHECK(condition) check::report(static_cast<bool>(condition), __FILE__, __LINE__, #condition)

#define CHECK_EQ(a, b)                                                                                    \
  do {                                                                                                    \
    const auto& check_a = (a);                                                                            \
    const auto& check_b = (b);                                                                            \
    check::report(check_a == check_b, __FILE__, __LINE__, check::values(#a, "==", #b, check_a, check_b)); \
  } while (false)

#define CHECK_NEAR(a, b, tolerance)                                                                   \
  do {                                                                                                \
    const double check_a = static_cast<double>(a);                                                    \
    const double check_b = static_cast<double>(b);                                                    \
    check::report(check::close(check_a, check_b, (tolerance)), __FILE__, __LINE__,                    \
                  check::values(#a, "≈", #b, check_a, check_b) + " within " #tolerance ", relative"); \
  } while (false)

/// The expression throws exactly this kind of exception (or one derived from it).
#define CHECK_THROWS(expression, Exception) CHECK_THROWS_WITH(expression, Exception, "")

/// … and its message contains the text.
#define CHECK_THROWS_WITH(expression, Exception, text)                                                          \
  do {                                                                                                          \
    std::string check_found = "nothing was thrown";                                                             \
    bool check_ok = false;                                                                                      \
    try {                                                                                                       \
      static_cast<void>(expression);                                                                            \
    } catch (const Exception& error) {                                                                          \
      check_found = error.what();                                                                               \
      check_ok = check_found.find(text) != std::string::npos;                                                   \
    } catch (const std::exception& error) {                                                                     \
      check_found = std::string("another exception: ") + error.what();                                          \
    }                                                                                                           \
    check::report(check_ok, __FILE__, __LINE__,                                                                 \
                  std::string(#expression " throws " #Exception " \"") + (text) + "\"; found: " + check_found); \
  } while (false)
