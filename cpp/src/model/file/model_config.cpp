#include "model/file/model_config.hpp"

#include <algorithm>
#include <initializer_list>
#include <string_view>
#include <utility>

#include "model/file/file_error.hpp"
#include "model/file/json.hpp"

namespace lstmcore::file {
namespace {

template <class Enum>
using Names = std::initializer_list<std::pair<Enum, const char*>>;

constexpr Names<Dtype> dtypes = {{Dtype::float32, "float32"}, {Dtype::float64, "float64"}};
constexpr Names<Precision> precisions = {{Precision::bfloat16, "bfloat16"}};
constexpr Names<Pooling> poolings = {{Pooling::last, "last"},         {Pooling::mean, "mean"},
                                     {Pooling::max, "max"},           {Pooling::attention, "attention"},
                                     {Pooling::hopfield, "hopfield"}, {Pooling::none, "none"}};
constexpr Names<Activation> activations = {{Activation::identity, "identity"}, {Activation::softmax, "softmax"}};
constexpr Names<HeadActivation> head_activations = {
    {HeadActivation::selu, "selu"}, {HeadActivation::relu, "relu"}, {HeadActivation::tanh, "tanh"}};
constexpr Names<Quantization> quantizations = {{Quantization::none, "none"},
                                               {Quantization::dynamic_int8, "dynamic_int8"}};

template <class Enum>
const char* name_of(const Names<Enum>& names, Enum value) {
  for (const auto& [candidate, name] : names) {
    if (candidate == value) return name;
  }
  throw FileError("an enumeration has no name in the model file");  // a new value was added without its line above
}

/// A JSON object whose members must be exactly the listed ones; `path` is its place for messages.
class Section {
 public:
  Section(const Json& json, std::string path, std::initializer_list<std::string_view> names)
      : json_(json), path_(std::move(path)) {
    if (json.as_object() == nullptr) throw FileError(path_ + ": expected an object, found " + json.describe());
    for (const Json::Member& member : *json.as_object()) {
      if (std::find(names.begin(), names.end(), member.name) == names.end()) {
        throw FileError(path_ + ": unknown entry " + quoted(member.name));
      }
    }
  }

  const Json& at(const char* name) const {
    const Json* value = json_.find(name);
    if (value == nullptr) throw FileError(path_ + ": '" + name + "' is missing");
    return *value;
  }

  std::int64_t size(const char* name) const {
    const auto value = at(name).as_int64();
    if (!value || *value < 1) fail(name, "an integer from 1 to 2^63 - 1");
    return *value;
  }

  /// What may be 0: the library's check of the architecture says which values are allowed.
  std::int64_t count(const char* name) const {
    const auto value = at(name).as_int64();
    if (!value || *value < 0) fail(name, "an integer from 0 to 2^63 - 1");
    return *value;
  }

  std::vector<std::int64_t> sizes(const char* name) const {
    const Json::Array* array = at(name).as_array();
    if (array == nullptr) fail(name, "an array of integers");
    std::vector<std::int64_t> values;
    for (const Json& item : *array) {
      const auto value = item.as_int64();
      if (!value || *value < 1) {
        throw FileError(path_ + "." + name + ": expected integers from 1 to 2^63 - 1, found " + item.describe());
      }
      values.push_back(*value);
    }
    return values;
  }

  std::uint64_t seed(const char* name) const {
    const auto value = at(name).as_uint64();
    if (!value) fail(name, "an integer from 0 to 2^64 - 1");
    return *value;
  }

  bool boolean(const char* name) const {
    const auto value = at(name).as_bool();
    if (!value) fail(name, "true or false");
    return *value;
  }

  double number(const char* name) const {
    const auto value = at(name).as_double();
    if (!value) fail(name, "a number");
    return *value;
  }

  const std::string& string(const char* name) const {
    const std::string* value = at(name).as_string();
    if (value == nullptr) fail(name, "a string");
    return *value;
  }

  template <class Enum>
  Enum one_of(const char* name, const Names<Enum>& names) const {
    const std::string& value = string(name);
    std::string allowed;
    for (const auto& [candidate, text] : names) {
      if (value == text) return candidate;
      allowed += (allowed.empty() ? "'" : ", '") + std::string(text) + "'";
    }
    fail(name, "one of " + allowed);
  }

 private:
  [[noreturn]] void fail(const char* name, const std::string& expected) const {
    throw FileError(path_ + "." + name + ": expected " + expected + ", found " + at(name).describe());
  }

  const Json& json_;
  std::string path_;
};

Json option_to_json(const Option& option) {
  return std::visit([](const auto& value) { return Json(value); }, option);
}

Option option_from_json(const std::string& name, const Json& json) {
  if (const auto value = json.as_bool()) return *value;
  if (const auto value = json.as_int64()) return *value;
  if (json.as_string() != nullptr) return *json.as_string();
  if (const auto value = json.as_double(); value && !json.as_uint64()) return *value;
  throw FileError("model.recurrent.cell_options: " + quoted(name) +
                  ": expected true, false, a number or a string, found " + json.describe());
}

}  // namespace

Json config_to_json(const ModelConfig& config) {
  const RecurrentConfig& r = config.recurrent;
  Json::Object options;
  for (const auto& [name, value] : r.cell_options) options.push_back({name, option_to_json(value)});
  Json::Object recurrent = {{"cell", r.cell},
                            {"input_size", r.input_size},
                            {"hidden_size", r.hidden_size},
                            {"num_layers", r.num_layers},
                            {"bidirectional", r.bidirectional},
                            {"reverse", r.reverse},
                            {"dropout", r.dropout},
                            {"variational_dropout", r.variational_dropout},
                            {"recurrent_dropout", r.recurrent_dropout},
                            {"zoneout_hidden", r.zoneout_hidden},
                            {"zoneout_cell", r.zoneout_cell},
                            {"learn_initial_state", r.learn_initial_state},
                            {"dtype", name_of(dtypes, r.dtype)},
                            {"seed", r.seed},
                            {"cell_options", std::move(options)}};
  if (r.precision == Precision::bfloat16) recurrent.push_back({"precision", "bfloat16"});
  Json::Object model = {{"recurrent", std::move(recurrent)},
                        {"pooling", name_of(poolings, config.pooling)},
                        {"pooling_size", config.pooling_size},
                        {"pooling_patterns", config.pooling_patterns},
                        {"pooling_beta", config.pooling_beta},
                        {"pooling_updates", config.pooling_updates},
                        {"head_sizes", Json::Array(config.head_sizes.begin(), config.head_sizes.end())},
                        {"head_activation", name_of(head_activations, config.head_activation)},
                        {"head_dropout", config.head_dropout},
                        {"activation", name_of(activations, config.activation)},
                        {"outputs", config.outputs}};
  if (config.quantization != Quantization::none) {
    model.push_back({"quantization", name_of(quantizations, config.quantization)});
  }
  return model;
}

ModelConfig config_from_json(const Json& json, FileKind kind) {
  // The entries are there in quantised models and in those in bf16, and in no others, which older versions read too.
  const bool quantised = kind == FileKind::quantised;
  const std::string_view last = quantised ? "quantization" : "outputs";
  const std::string_view last_of_layers = kind == FileKind::bfloat16 ? "precision" : "cell_options";
  const Section model(json, "model",
                      {"recurrent", "pooling", "pooling_size", "pooling_patterns", "pooling_beta", "pooling_updates",
                       "head_sizes", "head_activation", "head_dropout", "activation", "outputs", last});
  const Section recurrent(model.at("recurrent"), "model.recurrent",
                          {"cell", "input_size", "hidden_size", "num_layers", "bidirectional", "reverse", "dropout",
                           "variational_dropout", "recurrent_dropout", "zoneout_hidden", "zoneout_cell",
                           "learn_initial_state", "dtype", "seed", "cell_options", last_of_layers});
  ModelConfig config;
  RecurrentConfig& r = config.recurrent;
  r.cell = recurrent.string("cell");
  r.input_size = recurrent.size("input_size");
  r.hidden_size = recurrent.size("hidden_size");
  r.num_layers = recurrent.size("num_layers");
  r.bidirectional = recurrent.boolean("bidirectional");
  r.reverse = recurrent.boolean("reverse");
  r.dropout = recurrent.number("dropout");
  r.variational_dropout = recurrent.number("variational_dropout");
  r.recurrent_dropout = recurrent.number("recurrent_dropout");
  r.zoneout_hidden = recurrent.number("zoneout_hidden");
  r.zoneout_cell = recurrent.number("zoneout_cell");
  r.learn_initial_state = recurrent.boolean("learn_initial_state");
  r.dtype = recurrent.one_of("dtype", dtypes);
  r.seed = recurrent.seed("seed");
  if (kind == FileKind::bfloat16) r.precision = recurrent.one_of("precision", precisions);
  const Json& options = recurrent.at("cell_options");
  if (options.as_object() == nullptr) {
    throw FileError("model.recurrent.cell_options: expected an object, found " + options.describe());
  }
  for (const Json::Member& member : *options.as_object()) {
    r.cell_options.emplace(member.name, option_from_json(member.name, member.value));
  }
  config.pooling = model.one_of("pooling", poolings);
  config.pooling_size = model.count("pooling_size");
  config.pooling_patterns = model.size("pooling_patterns");
  config.pooling_beta = model.number("pooling_beta");
  config.pooling_updates = model.count("pooling_updates");
  config.head_sizes = model.sizes("head_sizes");
  config.head_activation = model.one_of("head_activation", head_activations);
  config.head_dropout = model.number("head_dropout");
  config.activation = model.one_of("activation", activations);
  config.outputs = model.size("outputs");
  if (quantised) {
    config.quantization = model.one_of("quantization", quantizations);
    if (config.quantization == Quantization::none) {
      throw FileError("model.quantization: expected 'dynamic_int8' in a file of this format version, found 'none'");
    }
  }
  return config;
}

}  // namespace lstmcore::file
