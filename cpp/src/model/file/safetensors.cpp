#include "model/file/safetensors.hpp"

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include "model/file/file_error.hpp"
#include "model/file/file_io.hpp"
#include "model/file/json.hpp"

#if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "model files hold little-endian numbers, which this code copies as they are"
#endif

namespace lstmcore::file {
namespace {

constexpr std::uint64_t length_bytes = 8;

const Json& required(const Json& entry, const char* key, const std::string& where) {
  const Json* value = entry.find(key);
  if (value == nullptr) throw FileError(where + ": '" + key + "' is missing");
  return *value;
}

TensorEntry parse_tensor(const std::string& name, const Json& json, std::uint64_t data_bytes) {
  const std::string where = "tensor " + quoted(name);
  const Json::Object* object = json.as_object();
  if (object == nullptr) throw FileError(where + ": expected an object, found " + json.describe());
  for (const Json::Member& member : *object) {
    if (member.name != "dtype" && member.name != "shape" && member.name != "data_offsets") {
      throw FileError(where + ": unknown entry " + quoted(member.name));
    }
  }
  TensorEntry entry;
  entry.name = name;

  const Json& dtype = required(json, "dtype", where);
  if (dtype.as_string() == nullptr || dtype_size(*dtype.as_string()) == 0) {
    throw FileError(where + ": unknown dtype: " + dtype.describe());
  }
  entry.dtype = *dtype.as_string();

  const Json& shape = required(json, "shape", where);
  if (shape.as_array() == nullptr) throw FileError(where + ": shape must be an array, found " + shape.describe());
  std::uint64_t bytes = dtype_size(entry.dtype);
  bool overflow = false;
  for (const Json& extent : *shape.as_array()) {
    const auto value = extent.as_int64();
    if (!value || *value < 0) {
      throw FileError(where + ": shape must hold integers from 0 to 2^63 - 1, found " + extent.describe());
    }
    entry.shape.push_back(*value);
    overflow = __builtin_mul_overflow(bytes, static_cast<std::uint64_t>(*value), &bytes) || overflow;
  }
  if (overflow) throw FileError(where + ": shape " + shape_text(entry.shape) + " is too large");

  const Json& offsets = required(json, "data_offsets", where);
  const Json::Array* pair = offsets.as_array();
  const bool is_pair = pair != nullptr && pair->size() == 2;
  const auto begin = is_pair ? (*pair)[0].as_uint64() : std::nullopt;
  const auto end = is_pair ? (*pair)[1].as_uint64() : std::nullopt;
  if (!begin || !end) {
    throw FileError(where + ": data_offsets must be two integers from 0 on, found " + offsets.dump().substr(0, 80));
  }
  entry.begin = *begin;
  entry.end = *end;
  const std::string range = "[" + std::to_string(entry.begin) + ", " + std::to_string(entry.end) + "]";
  if (entry.begin > entry.end || entry.end > data_bytes) {
    throw FileError(where + ": data_offsets " + range + " lie outside the " + std::to_string(data_bytes) +
                    " bytes of data (the file may be truncated)");
  }
  if (entry.bytes() != bytes) {
    throw FileError(where + ": " + entry.dtype + " of shape " + shape_text(entry.shape) + " takes " +
                    std::to_string(bytes) + " bytes, but data_offsets " + range + " hold " +
                    std::to_string(entry.bytes()));
  }
  if (entry.begin % dtype_size(entry.dtype) != 0) {
    throw FileError(where + ": data_offsets " + range + " are not aligned to " + entry.dtype);
  }
  return entry;
}

std::map<std::string, std::string> parse_metadata(const Json& json) {
  const Json::Object* object = json.as_object();
  if (object == nullptr) throw FileError("'__metadata__' must be an object, found " + json.describe());
  std::map<std::string, std::string> metadata;
  for (const Json::Member& member : *object) {
    if (member.value.as_string() == nullptr) {
      throw FileError("metadata " + quoted(member.name) + " must be a string, found " + member.value.describe());
    }
    metadata.emplace(member.name, *member.value.as_string());
  }
  return metadata;
}

/// Sorted by position, tensors must follow one another from the first byte of the data to the last.
void check_tiling(std::vector<TensorEntry>& tensors, std::uint64_t data_bytes) {
  std::sort(tensors.begin(), tensors.end(), [](const TensorEntry& a, const TensorEntry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  std::uint64_t at = 0;
  const TensorEntry* previous = nullptr;
  for (const TensorEntry& tensor : tensors) {
    if (tensor.begin < at) {
      throw FileError("tensors " + quoted(previous->name) + " and " + quoted(tensor.name) + " overlap");
    }
    if (tensor.begin > at) {
      throw FileError("a gap of " + std::to_string(tensor.begin - at) + " bytes before tensor " + quoted(tensor.name));
    }
    at = tensor.end;
    previous = &tensor;
  }
  if (at != data_bytes) {
    throw FileError(std::to_string(data_bytes - at) + " bytes after the last tensor belong to none");
  }
}

}  // namespace

const TensorEntry* Header::find(std::string_view name) const noexcept {
  const auto found = index.find(name);
  return found == index.end() ? nullptr : &tensors[found->second];
}

std::uint64_t dtype_size(std::string_view dtype) noexcept {
  static constexpr std::pair<std::string_view, std::uint64_t> sizes[] = {
      {"F64", 8}, {"F32", 4}, {"F16", 2}, {"BF16", 2}, {"I64", 8}, {"I32", 4}, {"I16", 2},
      {"I8", 1},  {"U64", 8}, {"U32", 4}, {"U16", 2},  {"U8", 1},  {"BOOL", 1}};
  for (const auto& [name, size] : sizes) {
    if (name == dtype) return size;
  }
  return 0;
}

std::string shape_text(const std::vector<std::int64_t>& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (i == 8) return text + ", … (" + std::to_string(shape.size()) + " dimensions)]";
    text += (i > 0 ? ", " : "") + std::to_string(shape[i]);
  }
  return text + "]";
}

Header parse_header(std::string_view json, std::uint64_t data_bytes) {
  if (json.empty() || json.front() != '{')
    throw FileError("the header does not start with '{': not a safetensors file");
  Json root;
  try {
    root = Json::parse(json);
  } catch (const JsonError& error) {
    throw FileError(std::string("the header is not valid JSON: ") + error.what() + " of the header");
  }
  Header header;
  for (const Json::Member& member : *root.as_object()) {
    if (member.name == "__metadata__") {
      header.metadata = parse_metadata(member.value);
    } else {
      header.tensors.push_back(parse_tensor(member.name, member.value, data_bytes));
    }
  }
  check_tiling(header.tensors, data_bytes);
  for (std::size_t i = 0; i < header.tensors.size(); ++i) header.index.emplace(header.tensors[i].name, i);
  return header;
}

Header read_header(InputFile& file) {
  if (file.size() < length_bytes) {
    throw FileError("it has only " + std::to_string(file.size()) + " bytes: truncated, or not a safetensors file");
  }
  std::uint64_t length = 0;
  file.read(&length, length_bytes);
  const std::uint64_t rest = file.size() - length_bytes;
  if (length > rest) {
    throw FileError("its first 8 bytes announce a header of " + std::to_string(length) + " bytes, but " +
                    std::to_string(rest) + " follow: truncated, or not a safetensors file");
  }
  if (length > max_header_bytes) {
    throw FileError("a header of " + std::to_string(length) + " bytes is beyond the limit of " +
                    std::to_string(max_header_bytes));
  }
  if (length % 8 != 0) {
    throw FileError("a header of " + std::to_string(length) + " bytes misaligns the tensors (not a multiple of 8)");
  }
  std::string json(static_cast<std::size_t>(length), '\0');
  file.read(json.data(), json.size());
  return parse_header(json, rest - length);
}

std::string build_header(Header& header) {
  Json::Object root;
  Json::Object metadata;
  for (const auto& [key, value] : header.metadata) metadata.push_back({key, value});
  root.push_back({"__metadata__", std::move(metadata)});
  std::uint64_t at = 0;
  for (TensorEntry& tensor : header.tensors) {
    std::uint64_t bytes = dtype_size(tensor.dtype);
    Json::Array shape;
    for (const std::int64_t extent : tensor.shape) {
      shape.emplace_back(extent);
      bytes *= static_cast<std::uint64_t>(extent);
    }
    tensor.begin = at;
    tensor.end = at + bytes;
    at = tensor.end;
    root.push_back({tensor.name, Json::Object{{"dtype", tensor.dtype},
                                              {"shape", std::move(shape)},
                                              {"data_offsets", Json::Array{Json(tensor.begin), Json(tensor.end)}}}});
  }
  std::string json = Json(std::move(root)).dump();
  json.append((8 - json.size() % 8) % 8, ' ');
  if (json.size() > max_header_bytes) {
    throw FileError("a header of " + std::to_string(json.size()) + " bytes is beyond the limit of " +
                    std::to_string(max_header_bytes) + "; is some metadata very long?");
  }
  const std::uint64_t length = json.size();
  std::string out(length_bytes, '\0');
  std::memcpy(out.data(), &length, length_bytes);
  return out + json;
}

}  // namespace lstmcore::file
