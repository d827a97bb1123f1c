// Accuracy of the elementary functions against the C library in higher precision.
#include "check.hpp"
#include "math/functions.hpp"

#include <cmath>
#include <limits>
#include <vector>

using namespace lstmcore;

namespace {

/// Distance in units of the last place of `exact` rounded to T.
template <class T>
double ulps(T found, long double exact) {
  const auto rounded = static_cast<T>(exact);
  const T next = std::nextafter(std::fabs(rounded), std::numeric_limits<T>::infinity());
  return static_cast<double>(std::fabs(static_cast<long double>(found) - exact) /
                             static_cast<long double>(next - std::fabs(rounded)));
}

template <class T, class Function, class Exact>
double worst(Function function, Exact exact, double low, double high) {
  constexpr int W = kLanes<T>;
  double found = 0;
  const int steps = 200000;
  for (int i = 0; i < steps; i += W) {
    T in[W];
    T out[W];
    for (int j = 0; j < W; ++j) in[j] = static_cast<T>(low + (high - low) * (i + j) / steps);
    store(out, function(load(in)));
    for (int j = 0; j < W; ++j) found = std::fmax(found, ulps(out[j], exact(static_cast<long double>(in[j]))));
  }
  return found;
}

template <class T>
void test(const char* name) {
  const auto exp_of = [](Pack<T> v) { return math::exp(v); };
  const auto logistic_of = [](Pack<T> v) { return math::logistic(v); };
  const auto tanh_of = [](Pack<T> v) { return math::tanh(v); };
  const auto exact_exp = [](long double v) { return std::exp(v); };
  const auto exact_logistic = [](long double v) { return 1.0L / (1.0L + std::exp(-v)); };
  const auto exact_tanh = [](long double v) { return std::tanh(v); };
  const double e = std::fmax(worst<T>(exp_of, exact_exp, -80, 80), worst<T>(exp_of, exact_exp, -1, 1));
  const double l =
      std::fmax(worst<T>(logistic_of, exact_logistic, -80, 80), worst<T>(logistic_of, exact_logistic, -8, 8));
  const double t = std::fmax(worst<T>(tanh_of, exact_tanh, -10, 10), worst<T>(tanh_of, exact_tanh, -1e-3, 1e-3));
  std::printf("%s: exp %.2f ulp, logistic %.2f ulp, tanh %.2f ulp\n", name, e, l, t);
  CHECK(e < 2.0);
  CHECK(l < 3.0);
  CHECK(t < (sizeof(T) == 4 ? 6.5 : 4.0));

  int i = 0;  // what saturates stays within [−1, 1]
  while (i < 120000 && std::fabs(math::tanh(static_cast<T>(i) * static_cast<T>(1e-4))) <= 1) ++i;
  CHECK_EQ(i, 120000);

  const T infinity = std::numeric_limits<T>::infinity();
  CHECK_EQ(math::logistic(infinity), T{1});
  CHECK(math::logistic(-infinity) < static_cast<T>(1e-37));
  CHECK_EQ(math::tanh(infinity), T{1});
  CHECK_EQ(math::tanh(-infinity), T{-1});
  CHECK_EQ(math::tanh(T{0}), T{0});
  CHECK_EQ(math::relu(T{-2}), T{0});
  CHECK_EQ(math::relu(T{2}), T{2});
  const T nan = std::numeric_limits<T>::quiet_NaN();
  CHECK(std::isnan(math::exp(nan)));
  CHECK(std::isnan(math::logistic(nan)));
  CHECK(std::isnan(math::tanh(nan)));
  CHECK(std::isnan(math::relu(nan)));
}

}  // namespace

int main() {
  test<float>("float");
  test<double>("double");
  return check::result();
}
