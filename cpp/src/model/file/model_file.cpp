#include "model/file/model_file.hpp"

#include <lstmcore/build_info.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <utility>
#include <vector>

#include "model/file/checksum.hpp"
#include "model/file/content.hpp"
#include "model/file/file_error.hpp"
#include "model/file/file_io.hpp"
#include "model/file/json.hpp"
#include "model/file/model_config.hpp"
#include "model/file/safetensors.hpp"
#include "model/file/test_vector.hpp"

namespace lstmcore::file {
namespace {

constexpr const char* format_name = "lstmcore";
constexpr const char* format_version = "1";
constexpr const char* quantised_version = "2";  // of models whose layers have 8-bit weights, and of no others
constexpr const char* bfloat16_version = "3";   // of models whose layers' products are in bf16, and of no others
constexpr const char* scale_suffix = "_scale";
constexpr const char* reserved_names[] = {"format", "format_version", "lstmcore_version",
                                          "model",  "test_vector",    "checksum"};

bool is_reserved(const std::string& name) {
  return std::any_of(std::begin(reserved_names), std::end(reserved_names),
                     [&name](const char* reserved) { return name == reserved; });
}

struct PreprocessingVector {
  const char* name;
  std::vector<double> values;
};

void check_preprocessing(const std::vector<PreprocessingVector>& vectors) {
  for (const PreprocessingVector& vector : vectors) {
    const bool scale = std::strstr(vector.name, "_scale") != nullptr;
    for (std::size_t i = 0; i < vector.values.size(); ++i) {
      const double value = vector.values[i];
      if (!std::isfinite(value) || (scale && !(value > 0.0))) {
        throw FileError("tensor '" + std::string(vector.name) + "' holds " + std::to_string(value) + " at index " +
                        std::to_string(i) + ", expected a finite number" + (scale ? " above 0" : ""));
      }
    }
  }
}

Json parse_entry(const Header& header, const char* name) {
  try {
    return Json::parse(required(header, name));
  } catch (const JsonError& error) {
    throw FileError("metadata '" + std::string(name) + "' is not valid JSON: " + error.what());
  }
}

/// Of what kind of model it is.
FileKind check_format(const Header& header) {
  const auto format = header.metadata.find("format");
  if (format == header.metadata.end() || format->second != format_name) {
    throw FileError("it is a safetensors file, but not a model of lstmcore (metadata 'format' is " +
                    (format == header.metadata.end() ? "missing" : quoted(format->second)) + ")");
  }
  const std::string& version = required(header, "format_version");
  if (version == format_version) return FileKind::plain;
  if (version == quantised_version) return FileKind::quantised;
  if (version == bfloat16_version) return FileKind::bfloat16;
  throw FileError("format version " + quoted(version) + " is unknown, this library reads '" + format_version + "', '" +
                  quantised_version + "' and '" + bfloat16_version + "'; a newer lstmcore may have written it");
}

void check_tensor(const Header& header, const std::string& name, const char* dtype,
                  const std::vector<std::int64_t>& shape) {
  const TensorEntry* entry = header.find(name);
  if (entry == nullptr) throw FileError("tensor " + quoted(name) + " is missing");
  if (entry->dtype != dtype) {
    throw FileError("tensor " + quoted(name) + ": expected dtype " + dtype + ", found " + entry->dtype);
  }
  if (entry->shape != shape) {
    throw FileError("tensor " + quoted(name) + ": expected shape " + shape_text(shape) + ", found " +
                    shape_text(entry->shape));
  }
}

/// Before the model exists: a file that passes holds every byte that the model's weights will take.
void check_core_tensors(const Header& header, const ModelConfig& config) {
  std::vector<TensorInfo> tensors;
  try {
    tensors = Model::tensors_of(config);
  } catch (const std::logic_error& error) {
    throw FileError(std::string("its architecture is not one this version can build: ") + error.what());
  }
  const char* dtype = dtype_text(config.recurrent.dtype);
  for (const TensorInfo& tensor : tensors) {
    const bool int8 = in_int8(config, tensor.name);
    check_tensor(header, tensor.name, int8 ? "I8" : dtype, tensor.shape);
    if (int8) check_tensor(header, tensor.name + scale_suffix, "F32", {tensor.shape[0]});
  }
  check_tensor(header, "input_mean", "F64", {config.recurrent.input_size});
  check_tensor(header, "input_scale", "F64", {config.recurrent.input_size});
  check_tensor(header, "output_mean", "F64", {config.outputs});
  check_tensor(header, "output_scale", "F64", {config.outputs});
}

using Build = std::function<Model(const ModelConfig&)>;

Model build_model(const ModelConfig& config, const Build& build) {
  // Only what the constructor says about its arguments is the file's fault; a missing engine or memory is not.
  try {
    return build ? build(config) : Model(config);
  } catch (const std::logic_error& error) {
    throw FileError(std::string("its architecture is not one this version can build: ") + error.what());
  }
}

/// The floats that the integers stand for, where the model has them.
void write_floats(Model& model, const std::string& name, const Int8Matrix& matrix) {
  const auto tensor = std::find_if(model.tensors().begin(), model.tensors().end(),
                                   [&name](const TensorInfo& info) { return info.name == name; });
  float* to = static_cast<float*>(model.parameters()) + tensor->offset;
  const std::size_t columns = matrix.integers.size() / matrix.scales.size();
  for (std::size_t i = 0; i < matrix.integers.size(); ++i) {
    to[i] = matrix.scales[i / columns] * static_cast<float>(matrix.integers[i]);
  }
}

/// The model rounds what it is given: that must be the integers and scales of the file.
void check_rounded(const Model& model, const std::string& name, const Int8Matrix& matrix) {
  const Int8Matrix found = model.int8_matrix(name);
  const std::size_t columns = matrix.integers.size() / matrix.scales.size();
  for (std::size_t i = 0; i < matrix.integers.size(); ++i) {
    const std::size_t row = i / columns;
    if (found.integers[i] != matrix.integers[i] || found.scales[row] != matrix.scales[row]) {
      throw FileError("tensor " + quoted(name) + ": row " + std::to_string(row) +
                      ": expected integers from -127 to 127 that reach one of both ends and a scale above 0 of 17 "
                      "significant bits, or zeros throughout, found " +
                      std::to_string(int{matrix.integers[i]}) + " at column " + std::to_string(i % columns) +
                      " and the scale " + std::to_string(matrix.scales[row]));
    }
  }
}

Model read(const std::string& path, std::map<std::string, std::string>& metadata, const Build& build) {
  InputFile file(path);
  const Header header = read_header(file);
  const FileKind kind = check_format(header);
  const ModelConfig config = config_from_json(parse_entry(header, "model"), kind);
  check_core_tensors(header, config);
  Model model = build_model(config, build);

  std::map<std::string, void*> destinations;
  const std::size_t element = size_of(config.recurrent.dtype);
  std::map<std::string, Int8Matrix> matrices;
  for (const TensorInfo& tensor : model.tensors()) {
    if (in_int8(config, tensor.name)) {
      Int8Matrix& matrix = matrices[tensor.name];
      matrix.integers.resize(static_cast<std::size_t>(tensor.count()));
      matrix.scales.resize(static_cast<std::size_t>(tensor.shape[0]));
      destinations[tensor.name] = matrix.integers.data();
      destinations[tensor.name + scale_suffix] = matrix.scales.data();
      continue;
    }
    check_tensor(header, tensor.name, dtype_text(config.recurrent.dtype), tensor.shape);
    destinations[tensor.name] =
        static_cast<char*>(model.parameters()) + static_cast<std::size_t>(tensor.offset) * element;
  }
  std::vector<PreprocessingVector> preprocessing;
  for (const char* name : {"input_mean", "input_scale", "output_mean", "output_scale"}) {
    preprocessing.push_back({name, std::vector<double>(static_cast<std::size_t>(header.find(name)->shape[0]))});
  }
  for (PreprocessingVector& vector : preprocessing) destinations[vector.name] = vector.values.data();
  for (const TensorEntry& tensor : header.tensors) {
    if (destinations.count(tensor.name) == 0) {
      throw FileError("tensor " + quoted(tensor.name) + " does not belong to this architecture");
    }
  }

  std::map<std::string, std::uint64_t> hashes;
  for (const TensorEntry& tensor : header.tensors) {  // in the order of the data
    void* destination = destinations.at(tensor.name);
    file.read(destination, static_cast<std::size_t>(tensor.bytes()));
    if (tensor.dtype != "I8") {
      const Dtype dtype = tensor.dtype == "F32" ? Dtype::float32 : Dtype::float64;
      check_finite(tensor.name, dtype, destination, static_cast<std::size_t>(tensor.bytes()) / size_of(dtype));
    }
    Fnv1a hash;
    hash.add(destination, static_cast<std::size_t>(tensor.bytes()));
    hashes[tensor.name] = hash.value();
  }
  check_checksum(header, hashes);
  check_preprocessing(preprocessing);
  try {
    model.set_preprocessing(preprocessing[0].values, preprocessing[1].values, preprocessing[2].values,
                            preprocessing[3].values);
  } catch (const std::logic_error& error) {
    throw FileError(error.what());
  }
  for (const auto& [name, matrix] : matrices) write_floats(model, name, matrix);
  model.parameters_changed();
  for (const auto& [name, matrix] : matrices) check_rounded(model, name, matrix);
  check_test_vector(model, parse_entry(header, "test_vector"));

  metadata.clear();
  for (const auto& [name, value] : header.metadata) {
    if (!is_reserved(name)) metadata.emplace(name, value);
  }
  return model;
}

void write(const std::string& path, const Model& model, const std::map<std::string, std::string>& metadata) {
  // 8-byte elements first, so that every tensor is aligned.
  std::vector<std::pair<TensorEntry, const void*>> sources;
  const auto add = [&sources](const std::string& name, const char* dtype, const std::vector<std::int64_t>& shape,
                              const void* data) {
    TensorEntry entry;
    entry.name = name;
    entry.dtype = dtype;
    entry.shape = shape;
    sources.emplace_back(std::move(entry), data);
  };
  const std::vector<PreprocessingVector> preprocessing = {{"input_mean", model.input_mean()},
                                                          {"input_scale", model.input_scale()},
                                                          {"output_mean", model.output_mean()},
                                                          {"output_scale", model.output_scale()}};
  check_preprocessing(preprocessing);
  for (const PreprocessingVector& vector : preprocessing) {
    add(vector.name, "F64", {static_cast<std::int64_t>(vector.values.size())}, vector.values.data());
  }
  const Dtype dtype = model.config().recurrent.dtype;
  std::map<std::string, Int8Matrix> matrices;
  for (const TensorInfo& tensor : model.tensors()) {
    const char* data =
        static_cast<const char*>(model.parameters()) + static_cast<std::size_t>(tensor.offset) * size_of(dtype);
    check_finite(tensor.name, dtype, data, static_cast<std::size_t>(tensor.count()));
    if (in_int8(model.config(), tensor.name)) {
      const Int8Matrix& matrix = matrices[tensor.name] = model.int8_matrix(tensor.name);
      add(tensor.name + scale_suffix, "F32", {tensor.shape[0]}, matrix.scales.data());
    } else {
      add(tensor.name, dtype_text(dtype), tensor.shape, data);
    }
  }
  for (const TensorInfo& tensor : model.tensors()) {
    const auto matrix = matrices.find(tensor.name);
    if (matrix != matrices.end()) add(tensor.name, "I8", tensor.shape, matrix->second.integers.data());
  }

  Header header;
  header.metadata = metadata;
  header.metadata["format"] = format_name;
  header.metadata["format_version"] = model.config().quantization != Quantization::none ? quantised_version
                                      : model.config().recurrent.precision == Precision::same_as_dtype
                                          ? format_version
                                          : bfloat16_version;
  header.metadata["lstmcore_version"] = build_info().version;
  header.metadata["model"] = config_to_json(model.config()).dump();
  header.metadata["test_vector"] = make_test_vector(model).dump();
  std::map<std::string, std::uint64_t> hashes;
  for (const auto& [entry, data] : sources) {
    header.tensors.push_back(entry);
    const auto count = static_cast<std::size_t>(TensorInfo{entry.name, entry.shape, 0}.count());
    Fnv1a hash;
    hash.add(data, count * static_cast<std::size_t>(dtype_size(entry.dtype)));
    hashes[entry.name] = hash.value();
  }
  header.metadata["checksum"] = checksum(header, hashes);
  const std::string preamble = build_header(header);

  AtomicFile file(path);
  file.write(preamble.data(), preamble.size());
  for (std::size_t i = 0; i < sources.size(); ++i) {
    file.write(sources[i].second, static_cast<std::size_t>(header.tensors[i].bytes()));
  }
  file.commit();
}

}  // namespace

void write_model(const std::string& path, const Model& model, const std::map<std::string, std::string>& metadata) {
  check_user_metadata(metadata, is_reserved);
  try {
    write(path, model, metadata);
  } catch (const FileError& error) {
    throw ModelFileError("cannot save the model to " + quoted(path, 512) + ": " + error.what());
  } catch (const JsonError& error) {
    throw ModelFileError("cannot save the model to " + quoted(path, 512) + ": " + error.what());
  }
}

Model read_model(const std::string& path, std::map<std::string, std::string>& metadata, const Build& build) {
  try {
    return read(path, metadata, build);
  } catch (const FileError& error) {
    throw ModelFileError("cannot load a model from " + quoted(path, 512) + ": " + error.what());
  }
}

}  // namespace lstmcore::file
