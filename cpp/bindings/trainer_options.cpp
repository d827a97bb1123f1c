// TrainerConfig from a dict: for Trainer, and for Optimiser, which reads a part of it.
#include "values.hpp"

#include <lstmcore/trainer.hpp>

#include <algorithm>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace lstmcore::bindings {
namespace {

template <class Enum>
struct Choice {
  Enum TrainerConfig::* member;
  std::vector<std::pair<const char*, Enum>> values;
};

struct Threads {};
struct Seed {};

using Member =
    std::variant<double TrainerConfig::*, std::int64_t TrainerConfig::*, bool TrainerConfig::*,
                 std::vector<double> TrainerConfig::*, Threads, Seed, Choice<Loss>, Choice<Solver>, Choice<Schedule>>;

struct Option {
  const char* name;
  Member member;
  bool of_optimiser = true;
};

const std::vector<Option>& trainer_options() {
  using C = TrainerConfig;
  static const std::vector<Option> options{
      {"loss",
       Choice<Loss>{&C::loss,
                    {{"cross_entropy", Loss::cross_entropy},
                     {"squared", Loss::squared},
                     {"absolute", Loss::absolute},
                     {"huber", Loss::huber},
                     {"quantile", Loss::quantile},
                     {"gaussian", Loss::gaussian}}},
       false},
      {"huber_delta", &C::huber_delta, false},
      {"quantiles", &C::quantiles, false},
      {"solver",
       Choice<Solver>{
           &C::solver,
           {{"sgd", Solver::sgd}, {"rmsprop", Solver::rmsprop}, {"adam", Solver::adam}, {"adamw", Solver::adamw}}}},
      {"learning_rate", &C::learning_rate},
      {"momentum", &C::momentum},
      {"nesterov", &C::nesterov},
      {"beta_1", &C::beta_1},
      {"beta_2", &C::beta_2},
      {"epsilon", &C::epsilon},
      {"rho", &C::rho},
      {"alpha", &C::alpha},
      {"schedule", Choice<Schedule>{&C::schedule,
                                    {{"constant", Schedule::constant},
                                     {"step", Schedule::step},
                                     {"cosine", Schedule::cosine},
                                     {"plateau", Schedule::plateau}}}},
      {"epochs", &C::epochs},
      {"schedule_factor", &C::schedule_factor},
      {"schedule_every", &C::schedule_every},
      {"tolerance", &C::tolerance},
      {"clip_norm", &C::clip_norm},
      {"clip_value", &C::clip_value},
      {"label_smoothing", &C::label_smoothing, false},
      {"max_norm", &C::max_norm},
      {"gradient_noise", &C::gradient_noise},
      {"bptt_steps", &C::bptt_steps, false},
      {"checkpoint_steps", &C::checkpoint_steps, false},
      {"batch_size", &C::batch_size, false},
      {"shuffle", &C::shuffle, false},
      {"seed", Seed{}},
      {"n_threads", Threads{}},
  };
  return options;
}

struct Assign {
  TrainerConfig& config;
  py::handle value;
  std::string name;

  void operator()(double TrainerConfig::* member) const { config.*member = to_number(value, name); }
  void operator()(std::int64_t TrainerConfig::* member) const { config.*member = to_integer(value, name); }
  void operator()(bool TrainerConfig::* member) const { config.*member = to_bool(value, name); }
  void operator()(std::vector<double> TrainerConfig::* member) const {
    if (!py::isinstance<py::list>(value) && !py::isinstance<py::tuple>(value)) {
      throw py::type_error(name + ": expected a list of numbers, got " + type_of(value));
    }
    // A copy: reading numbers may run Python code, which could change a list.
    const py::tuple numbers(py::reinterpret_borrow<py::object>(value));
    for (const py::handle number : numbers) (config.*member).push_back(to_number(number, name));
  }
  void operator()(Threads) const { config.n_threads = to_threads(value, name); }
  void operator()(Seed) const { config.seed = to_seed(value, name); }
  template <class Enum>
  void operator()(const Choice<Enum>& choice) const {
    const std::string text = to_text(value, name);
    std::string allowed;
    for (const auto& [known, enumerator] : choice.values) {
      if (text == known) {
        config.*choice.member = enumerator;
        return;
      }
      allowed += (allowed.empty() ? "'" : ", '") + std::string(known) + "'";
    }
    throw py::value_error(name + ": expected one of " + allowed + ", got '" + text + "'");
  }
};

}  // namespace

TrainerConfig to_trainer_config(py::handle value, const std::string& argument, bool optimiser_only) {
  const std::vector<Option>& options = trainer_options();
  std::vector<std::string> known;
  known.reserve(options.size());
  for (const Option& option : options) {
    if (option.of_optimiser || !optimiser_only) known.emplace_back(option.name);
  }

  TrainerConfig config;
  for (const auto& item : to_dict(value, argument)) {
    const std::string key = to_text(item.first, argument + " key");
    require_known(argument, key, known);
    const auto found = std::find_if(options.begin(), options.end(), [&](const Option& o) { return key == o.name; });
    std::visit(Assign{config, item.second, key}, found->member);
  }
  return config;
}

}  // namespace lstmcore::bindings
