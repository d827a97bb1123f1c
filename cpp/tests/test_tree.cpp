// Tree layers through the public API: gradients against finite differences, orders and shapes of forests, wrong input.
#include <lstmcore/tree.hpp>

#include "check.hpp"

#include <cmath>
#include <cstdint>
#include <vector>

using lstmcore::Forest;
using lstmcore::TreeConfig;
using lstmcore::TreeKind;
using lstmcore::TreeRecurrent;
using lstmcore::TreeTape;

namespace {

using Numbers = std::vector<double>;
using Indices = std::vector<std::int64_t>;

/// Numbers in ±1 that look random.
Numbers numbers(std::size_t count, unsigned seed) {
  Numbers values(count);
  std::uint32_t state = seed * 2654435761U + 1;
  for (double& value : values) {
    state = state * 1664525U + 1013904223U;
    value = static_cast<double>(state >> 8) / 8388608.0 - 1.0;
  }
  return values;
}

TreeConfig config_of(std::int64_t arity, std::int64_t inputs = 3, std::int64_t hidden = 5) {
  TreeConfig config;
  config.kind = arity > 0 ? TreeKind::nary : TreeKind::child_sum;
  config.arity = arity;
  config.input_size = inputs;
  config.hidden_size = hidden;
  config.dtype = lstmcore::Dtype::float64;
  return config;
}

Forest forest_of(const Numbers& x, const Indices& parents, std::int64_t features = 3) {
  Forest forest;
  forest.x = x.data();
  forest.parents = parents.data();
  forest.count = static_cast<std::int64_t>(parents.size());
  forest.features = features;
  return forest;
}

double dot(const Numbers& a, const Numbers& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

void test_gradients(std::int64_t arity, const Indices& parents, const Indices& positions = {}) {
  TreeRecurrent layer(config_of(arity));
  const std::size_t nodes = parents.size();
  Numbers x = numbers(nodes * 3, 1);
  const Numbers dh = numbers(nodes * 5, 2);
  const Numbers dc = numbers(nodes * 5, 3);
  Numbers h(nodes * 5);
  Numbers c(nodes * 5);
  Forest forest = forest_of(x, parents);
  if (!positions.empty()) forest.positions = positions.data();
  const auto loss = [&] {
    layer.forward(forest, h.data(), c.data());
    return dot(h, dh) + dot(c, dc);
  };
  TreeTape tape;
  layer.forward(forest, h.data(), nullptr, &tape);
  CHECK_EQ(tape.nodes(), static_cast<std::int64_t>(nodes));
  Numbers dx(x.size());
  Numbers gradient(static_cast<std::size_t>(layer.parameter_count()));
  layer.backward(tape, dh.data(), dc.data(), dx.data(), gradient.data());
  const auto compare = [&](double* values, const Numbers& expected) {
    for (std::size_t i = 0; i < expected.size(); ++i) {
      const double value = values[i];
      values[i] = value + 1e-5;
      const double above = loss();
      values[i] = value - 1e-5;
      const double below = loss();
      values[i] = value;
      CHECK_NEAR((above - below) / 2e-5, expected[i], 1e-8);
    }
  };
  compare(static_cast<double*>(layer.parameters()), gradient);
  compare(x.data(), dx);
  CHECK_THROWS_WITH(layer.backward(tape, dh.data(), nullptr, nullptr, gradient.data()), std::invalid_argument,
                    "used up");
}

/// A deep chain beside many small trees, with one thread and with several.
void test_threads(std::int64_t arity) {
  Indices parents;
  for (std::int64_t m = 0; m < 400; ++m) parents.push_back(m - 1);
  for (std::int64_t tree = 0; tree < 300; ++tree) {
    const auto root = static_cast<std::int64_t>(parents.size());
    parents.push_back(-1);
    for (std::int64_t m = 0; m < tree % 7; ++m) parents.push_back(root + m / 2);
  }
  const std::size_t nodes = parents.size();
  const Numbers x = numbers(nodes * 9, 1);
  Numbers first;
  for (const int threads : {1, 2, 3}) {
    TreeConfig config = config_of(arity, 9, 37);
    config.n_threads = threads;
    TreeRecurrent layer(config);
    Numbers results(nodes * (37 + 9) + static_cast<std::size_t>(layer.parameter_count()));
    const Numbers dh = numbers(nodes * 37, 2);
    TreeTape tape;
    layer.forward(forest_of(x, parents, 9), results.data(), nullptr, &tape);
    layer.backward(tape, dh.data(), nullptr, results.data() + nodes * 37, results.data() + nodes * 46);
    if (first.empty()) first = results;
    CHECK(results == first);
  }
}

void test_deep_chain() {
  constexpr std::int64_t kNodes = 100'000;
  Indices parents;
  for (std::int64_t m = 0; m < kNodes; ++m) parents.push_back(m + 1 < kNodes ? m + 1 : -1);
  const Numbers x = numbers(parents.size(), 1);
  TreeRecurrent layer(config_of(0, 1, 2));
  Numbers h(parents.size() * 2);
  Numbers dx(parents.size());
  Numbers gradient(static_cast<std::size_t>(layer.parameter_count()));
  TreeTape tape;
  layer.forward(forest_of(x, parents, 1), h.data(), nullptr, &tape);
  layer.backward(tape, h.data(), nullptr, dx.data(), gradient.data());
  CHECK(std::isfinite(h.back()) && std::isfinite(dx.front()) && std::isfinite(gradient.front()));
}

void test_wrong_input() {
  CHECK_THROWS_WITH(TreeRecurrent(config_of(0, 0)), std::invalid_argument, "input_size: expected");
  TreeConfig config = config_of(2);
  config.arity = 0;
  CHECK_THROWS_WITH(TreeRecurrent{config}, std::invalid_argument, "arity: expected");
  config = config_of(0);
  config.arity = 2;
  CHECK_THROWS_WITH(TreeRecurrent{config}, std::invalid_argument, "arity: expected 0 with kind child_sum");
  config = config_of(0);
  config.n_threads = -1;
  CHECK_THROWS_WITH(TreeRecurrent{config}, std::invalid_argument, "n_threads: expected");

  TreeRecurrent layer(config_of(2));
  const Numbers x = numbers(12, 1);
  Numbers h(20);
  const auto run = [&](const Indices& parents, const Indices& positions = {}) {
    Forest forest = forest_of(x, parents);
    if (!positions.empty()) forest.positions = positions.data();
    layer.forward(forest, h.data(), nullptr);
  };
  CHECK_THROWS_WITH(run({}), std::invalid_argument, "at least one node");
  CHECK_THROWS_WITH(run({-1, 2}), std::invalid_argument, "node 1: expected -1 (a root) or a node from 0 to 1, got 2");
  CHECK_THROWS_WITH(run({-1, 1}), std::invalid_argument, "node 1 is its own parent");
  CHECK_THROWS_WITH(run({-1, 2, 3, 1}), std::invalid_argument, "node 1 is its own ancestor: from it, 3 steps");
  CHECK_THROWS_WITH(run({-1, 0, 0, 0}), std::invalid_argument, "node 0 has more children than arity");
  CHECK_THROWS_WITH(run({-1, 0, 0}, {-1, 1, 1}), std::invalid_argument, "nodes 1 and 2 are both child 1 of node 0");
  CHECK_THROWS_WITH(run({-1, 0}, {-1, 2}), std::invalid_argument, "node 1: expected 0 to 1");
  CHECK_THROWS_WITH(run({-1, 0}, {1, 0}), std::invalid_argument, "node 0 is a root: expected -1, got 1");
  const Indices parents{-1, 0};
  CHECK_THROWS_WITH(layer.forward(forest_of(x, parents, 4), h.data(), nullptr), std::invalid_argument, "3 features");
  CHECK_THROWS_WITH(layer.forward(forest_of(x, parents), nullptr, nullptr), std::invalid_argument, "h: expected");
  Forest empty = forest_of(x, parents);
  empty.parents = nullptr;
  CHECK_THROWS_WITH(layer.forward(empty, h.data(), nullptr), std::invalid_argument, "parents: must not be null");

  TreeTape tape;
  Numbers gradient(static_cast<std::size_t>(layer.parameter_count()));
  CHECK_THROWS_WITH(layer.backward(tape, nullptr, nullptr, nullptr, gradient.data()), std::invalid_argument, "empty");
  TreeRecurrent other(config_of(2));
  other.forward(forest_of(x, parents), h.data(), nullptr, &tape);
  CHECK_THROWS_WITH(layer.backward(tape, nullptr, nullptr, nullptr, gradient.data()), std::invalid_argument, "another");
  CHECK_THROWS_WITH(other.backward(tape, nullptr, nullptr, nullptr, nullptr), std::invalid_argument,
                    "gradient: expected");
  layer.forward(forest_of(x, parents), h.data(), nullptr, &tape);  // records anew
  layer.backward(tape, nullptr, nullptr, nullptr, gradient.data());
  CHECK_EQ(gradient.front(), 0.0);
}

}  // namespace

int main() {
  const Indices mixed{4, 4, -1, 2, 2, -1, 7, 5, -1};  // node 2 over 3 and 4, 4 over 0 and 1; 5 over 7 over 6; 8 alone
  test_gradients(0, mixed);
  test_gradients(0, {-1, 0, 0, 0, 0, 0});
  test_gradients(2, mixed);
  test_gradients(3, mixed, {2, 0, -1, 1, 2, -1, 1, 2, -1});
  test_gradients(1, {1, 2, -1});
  test_gradients(0, {-1});
  test_gradients(2, {-1});
  test_threads(0);
  test_threads(5);
  test_deep_chain();
  test_wrong_input();
  return check::result();
}
