#include "model/file/content.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string_view>

#include "model/file/checksum.hpp"
#include "model/file/file_error.hpp"
#include "model/file/safetensors.hpp"

namespace lstmcore::file {
namespace {

template <class Scalar>
void check_finite_as(const std::string& name, const void* data, std::size_t count) {
  const auto* values = static_cast<const Scalar*>(data);
  const auto* bad = std::find_if(values, values + count, [](Scalar value) { return !std::isfinite(value); });
  if (bad != values + count) {
    throw FileError("tensor " + quoted(name) + " holds a value that is not finite (" + std::to_string(*bad) +
                    ") at index " + std::to_string(bad - values));
  }
}

}  // namespace

const char* dtype_text(Dtype dtype) noexcept { return dtype == Dtype::float32 ? "F32" : "F64"; }

void check_finite(const std::string& name, Dtype dtype, const void* data, std::size_t count) {
  dtype == Dtype::float32 ? check_finite_as<float>(name, data, count) : check_finite_as<double>(name, data, count);
}

std::string checksum(const Header& header, const std::map<std::string, std::uint64_t>& data_hashes) {
  Fnv1a hash;
  for (const auto& [name, value] : header.metadata) {
    if (name == "checksum") continue;
    hash.add(std::string_view(name));
    hash.add(std::string_view(value));
  }
  std::map<std::string_view, const TensorEntry*> tensors;
  for (const TensorEntry& tensor : header.tensors) tensors.emplace(tensor.name, &tensor);
  for (const auto& [name, tensor] : tensors) {
    hash.add(name);
    hash.add(std::string_view(tensor->dtype));
    hash.add(static_cast<std::uint64_t>(tensor->shape.size()));
    for (const std::int64_t extent : tensor->shape) hash.add(static_cast<std::uint64_t>(extent));
    hash.add(data_hashes.at(tensor->name));
  }
  static constexpr char digits[] = "0123456789abcdef";
  std::string text = "fnv1a64:";
  for (int shift = 60; shift >= 0; shift -= 4) text += digits[hash.value() >> shift & 15];
  return text;
}

void check_checksum(const Header& header, const std::map<std::string, std::uint64_t>& data_hashes) {
  const std::string computed = checksum(header, data_hashes);
  if (required(header, "checksum") != computed) {
    throw FileError("the file is damaged: its checksum is " + quoted(required(header, "checksum")) +
                    ", its content gives '" + computed + "'");
  }
}

const std::string& required(const Header& header, const char* name) {
  const auto found = header.metadata.find(name);
  if (found == header.metadata.end()) throw FileError("metadata '" + std::string(name) + "' is missing");
  return found->second;
}

void check_user_metadata(const std::map<std::string, std::string>& metadata, bool (*is_reserved)(const std::string&)) {
  for (const auto& [name, value] : metadata) {
    if (is_reserved(name)) {
      throw std::invalid_argument("metadata: the name '" + name + "' is reserved for the file itself; use another");
    }
    if (!is_utf8(name) || !is_utf8(value)) {
      throw std::invalid_argument("metadata: entry " + quoted(name) +
                                  " is not UTF-8 text; encode binary data, for example as base64");
    }
  }
}

}  // namespace lstmcore::file
