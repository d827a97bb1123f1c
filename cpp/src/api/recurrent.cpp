#include <lstmcore/recurrent.hpp>

#include "api/checks.hpp"
#include "engine/engine.hpp"

namespace lstmcore {

Tape::Tape() noexcept = default;
Tape::~Tape() = default;
Tape::Tape(Tape&&) noexcept = default;
Tape& Tape::operator=(Tape&&) noexcept = default;

std::int64_t Tape::sequences() const noexcept { return impl_ == nullptr ? 0 : impl_->sequences(); }

const std::vector<std::int64_t>& Tape::lengths() const {
  static const std::vector<std::int64_t> none;
  return impl_ == nullptr ? none : impl_->lengths();
}

Recurrent::Recurrent(const RecurrentConfig& config) {
  checks::check(config);
  impl_ = engine::current().make_recurrent(config);
}
Recurrent::~Recurrent() = default;
Recurrent::Recurrent(Recurrent&&) noexcept = default;
Recurrent& Recurrent::operator=(Recurrent&&) noexcept = default;

const RecurrentConfig& Recurrent::config() const noexcept { return impl_->config(); }
void Recurrent::set_n_threads(int n_threads) {
  checks::check_threads(n_threads);
  impl_->set_n_threads(n_threads);
}
const std::vector<std::string>& Recurrent::gates() const noexcept { return impl_->gates(); }
const std::vector<std::string>& Recurrent::states() const noexcept { return impl_->states(); }
std::int64_t Recurrent::state_width(std::size_t index) const noexcept { return impl_->state_width(index); }
std::int64_t Recurrent::layers() const noexcept { return impl_->layers(); }
std::int64_t Recurrent::output_width() const noexcept { return impl_->output_width(); }
const std::vector<TensorInfo>& Recurrent::tensors() const noexcept { return impl_->tensors(); }
std::int64_t Recurrent::parameter_count() const noexcept { return tensors().back().offset + tensors().back().count(); }
void* Recurrent::parameters() noexcept {
  impl_->set_settled(false);
  return impl_->parameters();
}
void Recurrent::parameters_settled() noexcept { impl_->set_settled(true); }
const void* Recurrent::parameters() const noexcept { return impl_->parameters(); }

void Recurrent::forward(const Sequences& x, const void* const* initial, void* const* y, void* const* final_state,
                        Tape* tape) const {
  checks::check(x, config().input_size);
  if (tape == nullptr) {
    impl_->forward(x, initial, y, final_state, nullptr);
    return;
  }
  // A tape that another kind of layer made is replaced: its recording would have other shapes.
  if (tape->impl_ == nullptr || tape->owner_ != impl_.get()) {
    tape->impl_ = impl_->make_tape();
    tape->owner_ = impl_.get();
  }
  impl_->forward(x, initial, y, final_state, tape->impl_.get());
}

void Recurrent::backward(Tape& tape, const void* const* dy, const void* const* d_final, void* const* dx,
                         void* const* d_initial, void* gradient) const {
  if (tape.impl_ == nullptr) checks::fail("tape: it is empty; run forward() with it first");
  if (tape.owner_ != impl_.get()) checks::fail("tape: it was recorded by another Recurrent");
  if (gradient == nullptr) checks::fail("gradient: expected room for parameter_count() elements, got null");
  impl_->backward(*tape.impl_, dy, d_final, dx, d_initial, gradient);
}

void Recurrent::step(const void* x, std::int64_t count, void* const* state, void* y) const {
  if (config().bidirectional || config().reverse) {
    checks::fail(
        "step: a bidirectional or reverse layer needs the whole sequence; use forward(), or bidirectional=False"
        " and reverse=False");
  }
  if (count < 1) checks::fail("count: expected at least 1, got " + std::to_string(count));
  if (x == nullptr || state == nullptr || y == nullptr) checks::fail("step: x, state and y must not be null");
  impl_->step(x, count, state, y);
}

const std::vector<CellInfo>& cells() { return engine::current().cells(); }

}  // namespace lstmcore
