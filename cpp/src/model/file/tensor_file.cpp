#include <lstmcore/build_info.hpp>
#include <lstmcore/tensor_file.hpp>

#include <algorithm>
#include <cstdint>
#include <set>
#include <stdexcept>
#include <utility>

#include "model/file/checksum.hpp"
#include "model/file/content.hpp"
#include "model/file/file_error.hpp"
#include "model/file/file_io.hpp"
#include "model/file/json.hpp"
#include "model/file/safetensors.hpp"

namespace lstmcore {
namespace file {
namespace {

constexpr const char* tensors_format = "lstmcore.tensors";
constexpr const char* tensors_version = "1";
/// What NumPy can hold, in every version.
constexpr std::size_t most_axes = 32;

bool is_reserved_in_tensors(const std::string& name) {
  return name == "format" || name == "format_version" || name == "lstmcore_version" || name == "checksum";
}

void check(const std::vector<TensorView>& tensors) {
  std::set<std::string> names;
  for (const TensorView& tensor : tensors) {
    const std::string where = "tensors: " + quoted(tensor.name) + ": ";
    if (tensor.name.empty() || tensor.name == "__metadata__" || !is_utf8(tensor.name)) {
      throw std::invalid_argument(where + "expected a name in UTF-8, neither empty nor '__metadata__'");
    }
    if (!names.insert(tensor.name).second) throw std::invalid_argument(where + "named twice");
    if (tensor.shape.size() > most_axes) {
      throw std::invalid_argument(where + "expected at most " + std::to_string(most_axes) + " axes, got " +
                                  std::to_string(tensor.shape.size()));
    }
    double count = 1.0;
    for (const std::int64_t extent : tensor.shape) {
      count *= static_cast<double>(extent);
      if (extent < 1 || count > 1e15) {
        throw std::invalid_argument(where + "expected extents of at least 1 that can be addressed, got shape " +
                                    shape_text(tensor.shape));
      }
    }
    if (tensor.data == nullptr) throw std::invalid_argument(where + "its data are null");
  }
}

std::size_t count_of(const std::vector<std::int64_t>& shape) {
  return static_cast<std::size_t>(TensorInfo{"", shape, 0}.count());
}

void write(const std::string& path, std::vector<TensorView> tensors, const std::map<std::string, std::string>& texts) {
  // 8-byte elements first, so that every tensor is aligned.
  std::stable_sort(tensors.begin(), tensors.end(),
                   [](const TensorView& a, const TensorView& b) { return size_of(a.dtype) > size_of(b.dtype); });
  Header header;
  header.metadata = texts;
  header.metadata["format"] = tensors_format;
  header.metadata["format_version"] = tensors_version;
  header.metadata["lstmcore_version"] = build_info().version;
  std::map<std::string, std::uint64_t> hashes;
  for (const TensorView& tensor : tensors) {
    const std::size_t count = count_of(tensor.shape);
    check_finite(tensor.name, tensor.dtype, tensor.data, count);
    TensorEntry entry;
    entry.name = tensor.name;
    entry.dtype = dtype_text(tensor.dtype);
    entry.shape = tensor.shape;
    header.tensors.push_back(std::move(entry));
    Fnv1a hash;
    hash.add(tensor.data, count * size_of(tensor.dtype));
    hashes[tensor.name] = hash.value();
  }
  header.metadata["checksum"] = checksum(header, hashes);
  const std::string preamble = build_header(header);
  AtomicFile out(path);
  out.write(preamble.data(), preamble.size());
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    out.write(tensors[i].data, static_cast<std::size_t>(header.tensors[i].bytes()));
  }
  out.commit();
}

void check_header(const Header& header) {
  const auto format = header.metadata.find("format");
  if (format == header.metadata.end() || format->second != tensors_format) {
    throw FileError("metadata 'format' is " +
                    (format == header.metadata.end() ? std::string("missing") : quoted(format->second)) +
                    ", expected '" + tensors_format + "'");
  }
  const std::string& version = required(header, "format_version");
  if (version != tensors_version) {
    throw FileError("format version " + quoted(version) + " is unknown, this library reads '" + tensors_version +
                    "'; a newer lstmcore may have written it");
  }
  for (const TensorEntry& tensor : header.tensors) {
    const std::string where = "tensor " + quoted(tensor.name) + ": ";
    if (tensor.dtype != "F32" && tensor.dtype != "F64") {
      throw FileError(where + "expected dtype F32 or F64, found " + tensor.dtype);
    }
    if (tensor.name.empty() || tensor.shape.size() > most_axes || tensor.bytes() == 0) {
      throw FileError(where + "expected a name, 0 to " + std::to_string(most_axes) +
                      " axes and extents of at least 1, found shape " + shape_text(tensor.shape));
    }
  }
}

TensorFile read(const std::string& path) {
  InputFile in(path);
  const Header header = read_header(in);
  check_header(header);
  TensorFile result;
  std::map<std::string, std::uint64_t> hashes;
  for (const TensorEntry& entry : header.tensors) {  // in the order of the data
    TensorFile::Tensor tensor;
    tensor.name = entry.name;
    tensor.dtype = entry.dtype == "F32" ? Dtype::float32 : Dtype::float64;
    tensor.shape = entry.shape;
    tensor.data.resize(static_cast<std::size_t>(entry.bytes()));
    in.read(tensor.data.data(), tensor.data.size());
    check_finite(tensor.name, tensor.dtype, tensor.data.data(), tensor.data.size() / size_of(tensor.dtype));
    Fnv1a hash;
    hash.add(tensor.data.data(), tensor.data.size());
    hashes[tensor.name] = hash.value();
    result.tensors.push_back(std::move(tensor));
  }
  check_checksum(header, hashes);
  for (const auto& [name, text] : header.metadata) {
    if (!is_reserved_in_tensors(name)) result.metadata.emplace(name, text);
  }
  return result;
}

}  // namespace
}  // namespace file

void write_tensors(const std::string& path, const std::vector<TensorView>& tensors,
                   const std::map<std::string, std::string>& metadata) {
  file::check_user_metadata(metadata, file::is_reserved_in_tensors);
  file::check(tensors);
  try {
    file::write(path, tensors, metadata);
  } catch (const file::FileError& error) {
    throw ModelFileError("cannot write tensors to " + file::quoted(path, 512) + ": " + error.what());
  } catch (const file::JsonError& error) {
    throw ModelFileError("cannot write tensors to " + file::quoted(path, 512) + ": " + error.what());
  }
}

TensorFile read_tensors(const std::string& path) {
  try {
    return file::read(path);
  } catch (const file::FileError& error) {
    throw ModelFileError("cannot read tensors from " + file::quoted(path, 512) + ": " + error.what());
  }
}

std::map<std::string, std::string> read_metadata(const std::string& path) {
  try {
    file::InputFile in(path);
    return file::read_header(in).metadata;
  } catch (const file::FileError& error) {
    throw ModelFileError("cannot read metadata from " + file::quoted(path, 512) + ": " + error.what());
  }
}

}  // namespace lstmcore
