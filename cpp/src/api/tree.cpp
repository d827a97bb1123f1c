#include <lstmcore/tree.hpp>

#include "api/checks.hpp"
#include "engine/engine.hpp"

#include <algorithm>
#include <utility>

namespace lstmcore {

namespace {

using checks::fail;

std::string text(std::int64_t number) { return std::to_string(number); }

void check(const TreeConfig& config) {
  checks::check_size("input_size", config.input_size);
  checks::check_size("hidden_size", config.hidden_size);
  if (config.kind == TreeKind::nary) {
    checks::check_size("arity", config.arity);
  } else if (config.arity != 0) {
    fail("arity: expected 0 with kind child_sum, whose children have no positions, got " + text(config.arity));
  }
  checks::check_threads(config.n_threads);
  const auto i = static_cast<double>(config.input_size);
  const auto h = static_cast<double>(config.hidden_size);
  const auto a = static_cast<double>(std::max<std::int64_t>(config.arity, 1));
  // Weights must be addressable: their number times eight bytes stays far inside 63 bits.
  if (4 * h * i + (3 + a) * h * a * h > 1e15) {
    fail("hidden_size, input_size, arity: " + text(config.hidden_size) + ", " + text(config.input_size) + ", " +
         text(config.arity) + " together need more weights than can be addressed");
  }
}

/// Every climb from a node to its root ends. Climbs stop at nodes that an earlier one has passed: linear in M.
void check_cycles(const Forest& forest) {
  constexpr std::int64_t kUnseen = -1;
  std::vector<std::int64_t> seen(static_cast<std::size_t>(forest.count), kUnseen);  // from where a climb came by
  for (std::int64_t start = 0; start < forest.count; ++start) {
    std::int64_t m = start;
    while (m >= 0 && seen[static_cast<std::size_t>(m)] == kUnseen) {
      seen[static_cast<std::size_t>(m)] = start;
      m = forest.parents[m];
    }
    if (m < 0 || seen[static_cast<std::size_t>(m)] != start) continue;
    std::int64_t length = 0;
    for (std::int64_t k = m; length == 0 || k != m; k = forest.parents[k]) ++length;
    fail("parents: node " + text(m) + " is its own ancestor: from it, " + text(length) +
         " steps to parents come back to it (a cycle); expected every node to reach a root, whose parent is -1");
  }
}

void check_positions(const Forest& forest, std::int64_t arity) {
  // By parent, then position: what is taken twice stands together.
  std::vector<std::int64_t> children;
  for (std::int64_t m = 0; m < forest.count; ++m) {
    const std::int64_t position = forest.positions[m];
    if (forest.parents[m] < 0) {
      if (position != -1) {
        fail("positions: node " + text(m) + " is a root: expected -1, got " + text(position));
      }
      continue;
    }
    if (position < 0 || position >= arity) {
      fail("positions: node " + text(m) + ": expected 0 to " + text(arity - 1) + " (arity is " + text(arity) +
           "), got " + text(position));
    }
    children.push_back(m);
  }
  const auto place = [&](std::int64_t m) { return std::make_pair(forest.parents[m], forest.positions[m]); };
  std::sort(children.begin(), children.end(),
            [&](std::int64_t a, std::int64_t b) { return place(a) != place(b) ? place(a) < place(b) : a < b; });
  for (std::size_t k = 1; k < children.size(); ++k) {
    if (place(children[k - 1]) != place(children[k])) continue;
    fail("positions: nodes " + text(children[k - 1]) + " and " + text(children[k]) + " are both child " +
         text(forest.positions[children[k]]) + " of node " + text(forest.parents[children[k]]) +
         "; expected one node at a position");
  }
}

void check(const Forest& forest, const TreeConfig& config) {
  if (forest.count < 1) fail("x: expected at least one node, got " + text(forest.count));
  if (forest.x == nullptr) fail("x: must not be null");
  if (forest.parents == nullptr) fail("parents: must not be null");
  if (forest.features != config.input_size) {
    fail("x: expected " + text(config.input_size) + " features, got " + text(forest.features));
  }
  for (std::int64_t m = 0; m < forest.count; ++m) {
    const std::int64_t parent = forest.parents[m];
    if (parent < -1 || parent >= forest.count) {
      fail("parents: node " + text(m) + ": expected -1 (a root) or a node from 0 to " + text(forest.count - 1) +
           ", got " + text(parent));
    }
    if (parent == m) fail("parents: node " + text(m) + " is its own parent; a root has parent -1");
  }
  check_cycles(forest);
  if (config.kind == TreeKind::child_sum) {
    if (forest.positions != nullptr) {
      fail("positions: children have none with kind child_sum; leave positions out, or use kind nary");
    }
    return;
  }
  if (forest.positions != nullptr) {
    check_positions(forest, config.arity);
    return;
  }
  std::vector<std::int64_t> children(static_cast<std::size_t>(forest.count), 0);
  for (std::int64_t m = 0; m < forest.count; ++m) {
    const std::int64_t parent = forest.parents[m];
    if (parent >= 0 && ++children[static_cast<std::size_t>(parent)] > config.arity) {
      fail("parents: node " + text(parent) + " has more children than arity, which is " + text(config.arity) +
           "; node " + text(m) + " is one too many");
    }
  }
}

}  // namespace

TreeTape::TreeTape() noexcept = default;
TreeTape::~TreeTape() = default;
TreeTape::TreeTape(TreeTape&&) noexcept = default;
TreeTape& TreeTape::operator=(TreeTape&&) noexcept = default;

std::int64_t TreeTape::nodes() const noexcept { return impl_ == nullptr ? 0 : impl_->nodes(); }

TreeRecurrent::TreeRecurrent(const TreeConfig& config) {
  check(config);
  impl_ = engine::current().make_tree(config);
}
TreeRecurrent::~TreeRecurrent() = default;
TreeRecurrent::TreeRecurrent(TreeRecurrent&&) noexcept = default;
TreeRecurrent& TreeRecurrent::operator=(TreeRecurrent&&) noexcept = default;

const TreeConfig& TreeRecurrent::config() const noexcept { return impl_->config(); }
void TreeRecurrent::set_threads(int n_threads) {
  checks::check_threads(n_threads);
  if (n_threads != config().n_threads) impl_->set_threads(n_threads);
}
const std::vector<std::string>& TreeRecurrent::gates() const noexcept { return impl_->gates(); }
const std::vector<TensorInfo>& TreeRecurrent::tensors() const noexcept { return impl_->tensors(); }
std::int64_t TreeRecurrent::parameter_count() const noexcept {
  return tensors().back().offset + tensors().back().count();
}
void* TreeRecurrent::parameters() noexcept { return impl_->parameters(); }
const void* TreeRecurrent::parameters() const noexcept { return impl_->parameters(); }

void TreeRecurrent::forward(const Forest& forest, void* h, void* c, TreeTape* tape) const {
  check(forest, config());
  if (h == nullptr) fail("h: expected room for M x hidden_size elements, got null");
  if (tape == nullptr) {
    impl_->forward(forest, h, c, nullptr);
    return;
  }
  // A tape that another layer made is replaced: its recording would have other shapes.
  if (tape->impl_ == nullptr || tape->owner_ != impl_.get()) {
    tape->impl_ = impl_->make_tape();
    tape->owner_ = impl_.get();
  }
  impl_->forward(forest, h, c, tape->impl_.get());
}

void TreeRecurrent::backward(TreeTape& tape, const void* dh, const void* dc, void* dx, void* gradient) const {
  if (tape.impl_ == nullptr) fail("tape: it is empty; run forward() with it first");
  if (tape.owner_ != impl_.get()) fail("tape: it was recorded by another TreeRecurrent");
  if (gradient == nullptr) fail("gradient: expected room for parameter_count() elements, got null");
  impl_->backward(*tape.impl_, dh, dc, dx, gradient);
}

}  // namespace lstmcore
