#include <lstmcore/conv.hpp>

#include "api/checks.hpp"
#include "engine/engine.hpp"

namespace lstmcore {

ConvRecurrent::ConvRecurrent(const ConvConfig& config) {
  checks::check(config);
  impl_ = engine::current().make_conv(config);
}
ConvRecurrent::~ConvRecurrent() = default;
ConvRecurrent::ConvRecurrent(ConvRecurrent&&) noexcept = default;
ConvRecurrent& ConvRecurrent::operator=(ConvRecurrent&&) noexcept = default;

const ConvConfig& ConvRecurrent::config() const noexcept { return impl_->config(); }
int ConvRecurrent::n_threads() const noexcept { return impl_->n_threads(); }
void ConvRecurrent::set_n_threads(int n_threads) {
  if (n_threads < 0) checks::fail("n_threads: expected 0 (all cores) or more, got " + std::to_string(n_threads));
  impl_->set_n_threads(n_threads);
}
const std::vector<std::string>& ConvRecurrent::gates() const noexcept { return impl_->gates(); }
const std::vector<std::string>& ConvRecurrent::states() const noexcept { return impl_->states(); }
std::int64_t ConvRecurrent::input_size() const noexcept { return config().channels * config().height * config().width; }
std::int64_t ConvRecurrent::output_size() const noexcept {
  return config().hidden_channels * config().height * config().width;
}
const std::vector<TensorInfo>& ConvRecurrent::tensors() const noexcept { return impl_->tensors(); }
std::int64_t ConvRecurrent::parameter_count() const noexcept {
  return tensors().back().offset + tensors().back().count();
}
void* ConvRecurrent::parameters() noexcept { return impl_->parameters(); }
const void* ConvRecurrent::parameters() const noexcept { return impl_->parameters(); }

void ConvRecurrent::forward(const Sequences& x, const void* const* initial, void* const* y, void* const* final_state,
                            Tape* tape) const {
  checks::check(x, input_size());
  if (tape == nullptr) {
    impl_->forward(x, initial, y, final_state, nullptr);
    return;
  }
  // A tape that another layer made is replaced: its recording would have other shapes.
  if (tape->impl_ == nullptr || tape->owner_ != impl_.get()) {
    tape->impl_ = impl_->make_tape();
    tape->owner_ = impl_.get();
  }
  impl_->forward(x, initial, y, final_state, tape->impl_.get());
}

void ConvRecurrent::backward(Tape& tape, const void* const* dy, const void* const* d_final, void* const* dx,
                             void* const* d_initial, void* gradient) const {
  if (tape.impl_ == nullptr) checks::fail("tape: it is empty; run forward() with it first");
  if (tape.owner_ != impl_.get()) checks::fail("tape: it was recorded by another layer");
  if (gradient == nullptr) checks::fail("gradient: expected room for parameter_count() elements, got null");
  impl_->backward(*tape.impl_, dy, d_final, dx, d_initial, gradient);
}

void ConvRecurrent::step(const void* x, std::int64_t count, void* const* state, void* y) const {
  if (count < 1) checks::fail("count: expected at least 1, got " + std::to_string(count));
  if (x == nullptr || state == nullptr || y == nullptr) checks::fail("step: x, state and y must not be null");
  impl_->step(x, count, state, y);
}

}  // namespace lstmcore
