#include "model/file/test_vector.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "model/file/file_error.hpp"
#include "model/file/json.hpp"

namespace lstmcore::file {
namespace {

constexpr std::int64_t steps_written = 5;
constexpr std::int64_t most_steps_read = 64;  // a hostile file cannot keep the reader computing

/// SplitMix64 (Steele, Lea & Flood 2014), reduced to (−1, 1).
class Random {
 public:
  double next() noexcept {
    state_ += 0x9e3779b97f4a7c15u;
    std::uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    z ^= z >> 31;
    return static_cast<double>(z >> 11) * 0x1p-52 - 1.0;
  }

 private:
  std::uint64_t state_ = 0;
};

/// Numbers that predict() gives for one sequence.
std::int64_t output_count(const Model& model, std::int64_t steps) {
  return model.config().outputs * (model.config().pooling == Pooling::none ? steps : 1);
}

template <class Scalar>
std::vector<double> predict_as(const Model& model, const std::vector<double>& input, std::int64_t steps) {
  const std::vector<Scalar> x(input.begin(), input.end());
  std::vector<Scalar> out(static_cast<std::size_t>(output_count(model, steps)));
  const void* data = x.data();
  const Sequences sequences{&data, &steps, 1, model.config().recurrent.input_size};
  model.predict(sequences, out.data(), 1);
  return {out.begin(), out.end()};
}

/// input: [steps, I], values that the model's dtype represents exactly.
std::vector<double> predict(const Model& model, const std::vector<double>& input, std::int64_t steps) {
  return model.config().recurrent.dtype == Dtype::float32 ? predict_as<float>(model, input, steps)
                                                          : predict_as<double>(model, input, steps);
}

double largest(Dtype dtype) {
  return dtype == Dtype::float32 ? static_cast<double>(std::numeric_limits<float>::max())
                                 : std::numeric_limits<double>::max();
}

/// Values in input_mean ± width / input_scale, rounded to the model's dtype.
std::vector<double> make_input(const Model& model, std::int64_t steps, double width) {
  const Dtype dtype = model.config().recurrent.dtype;
  Random random;
  std::vector<double> input;
  for (std::int64_t t = 0; t < steps; ++t) {
    for (std::size_t i = 0; i < model.input_mean().size(); ++i) {
      double value = model.input_mean()[i] + random.next() * width / model.input_scale()[i];
      value = std::clamp(value, -largest(dtype), largest(dtype));
      input.push_back(dtype == Dtype::float32 ? static_cast<double>(static_cast<float>(value)) : value);
    }
  }
  return input;
}

bool all_finite(const std::vector<double>& values) {
  return std::all_of(values.begin(), values.end(), [](double value) { return std::isfinite(value); });
}

/// How far output k may lie from the recorded one. In the network's own units (before the inverse of the output
/// preprocessing, which may be millions per unit) 1e-4·max(1, |value|) for float32, 1e-9 for float64, 2e-2 for 8-bit
/// weights and 1e-2 for products in bf16; more where
/// large head weights cancel one another; and the resolution of the number itself, for means far from 0.
double allowed_difference(const Model& model, std::size_t k, double recorded) {
  const bool single = model.config().recurrent.dtype == Dtype::float32;
  // Another instruction set's last bit may take an activation to the next of 127 steps, or to the next bf16.
  const bool quantised = model.config().quantization != Quantization::none;
  const bool bf16 = model.config().recurrent.precision == Precision::bfloat16;
  const double base = quantised ? 2e-2 : bf16 ? 1e-2 : single ? 1e-4 : 1e-9;
  const double epsilon =
      single ? static_cast<double>(std::numeric_limits<float>::epsilon()) : std::numeric_limits<double>::epsilon();
  const auto head = std::find_if(model.tensors().begin(), model.tensors().end(),
                                 [](const TensorInfo& tensor) { return tensor.name == "head_W"; });
  const std::int64_t columns = head->shape[1];
  double weights = 0.0;
  for (std::int64_t j = 0; j < columns; ++j) {
    const std::int64_t at = head->offset + static_cast<std::int64_t>(k) * columns + j;
    weights += std::abs(single ? static_cast<double>(static_cast<const float*>(model.parameters())[at])
                               : static_cast<const double*>(model.parameters())[at]);
  }
  const double cancellation = 64.0 * epsilon * weights;
  if (model.config().activation == Activation::softmax) return std::max(base, cancellation);
  const double scale = model.output_scale()[k];
  const double own = std::abs((recorded - model.output_mean()[k]) * scale);
  return std::max(base * std::max(1.0, own), cancellation) / scale + 8.0 * epsilon * std::abs(recorded);
}

Json::Array to_json(const double* values, std::size_t count) { return Json::Array(values, values + count); }

/// Appends `count` numbers that the dtype can hold.
void append_numbers(std::vector<double>& out, const Json& json, std::int64_t count, double limit, const char* what) {
  const Json::Array* array = json.as_array();
  if (array == nullptr || array->size() != static_cast<std::size_t>(count)) {
    throw FileError("test_vector." + std::string(what) + ": expected an array of " + std::to_string(count) +
                    " numbers, found " + json.describe());
  }
  for (const Json& item : *array) {
    const auto value = item.as_double();
    if (!value || std::abs(*value) > limit) {
      throw FileError("test_vector." + std::string(what) +
                      ": expected a number that the model's dtype can hold, found " + item.describe());
    }
    out.push_back(*value);
  }
}

}  // namespace

Json make_test_vector(const Model& model) {
  // A network without bounds (relu) may leave the finite numbers within a few steps; one step at the mean is tamer.
  for (const auto& [steps, width] : {std::pair<std::int64_t, double>{steps_written, 2.0}, {1, 0.0}}) {
    const std::vector<double> input = make_input(model, steps, width);
    const std::vector<double> output = predict(model, input, steps);
    if (!all_finite(output)) continue;
    const std::size_t features = model.input_mean().size();
    Json::Array rows;
    for (std::size_t t = 0; t < static_cast<std::size_t>(steps); ++t) {
      rows.emplace_back(to_json(input.data() + t * features, features));
    }
    return Json::Object{{"input", std::move(rows)}, {"output", to_json(output.data(), output.size())}};
  }
  throw FileError("the model's outputs are not finite even for one step at the mean of its inputs");
}

void check_test_vector(const Model& model, const Json& json) {
  const Json* rows = json.find("input");
  const Json* recorded = json.find("output");
  if (rows == nullptr || recorded == nullptr || json.as_object()->size() != 2) {
    throw FileError("test_vector: expected an object with 'input' and 'output', found " + json.describe());
  }
  const Json::Array* steps = rows->as_array();
  if (steps == nullptr || steps->empty() || steps->size() > static_cast<std::size_t>(most_steps_read)) {
    throw FileError("test_vector.input: expected 1 to " + std::to_string(most_steps_read) + " steps, found " +
                    rows->describe());
  }
  const double limit = largest(model.config().recurrent.dtype);
  std::vector<double> input;
  for (const Json& row : *steps) append_numbers(input, row, model.config().recurrent.input_size, limit, "input");
  std::vector<double> expected;
  append_numbers(expected, *recorded, output_count(model, static_cast<std::int64_t>(steps->size())), limit, "output");

  const std::vector<double> found = predict(model, input, static_cast<std::int64_t>(steps->size()));
  for (std::size_t k = 0; k < found.size(); ++k) {
    const std::size_t unit = k % static_cast<std::size_t>(model.config().outputs);
    if (!(std::abs(found[k] - expected[k]) <= allowed_difference(model, unit, expected[k]))) {
      throw FileError("the model does not reproduce the test vector in the file: output " + std::to_string(k) + " is " +
                      std::to_string(found[k]) + ", recorded was " + std::to_string(expected[k]));
    }
  }
}

}  // namespace lstmcore::file
