// Named arrays and texts in one safetensors file: the container of networks that are put together in Python.
#pragma once

#include <lstmcore/types.hpp>

#include <map>
#include <string>
#include <vector>

namespace lstmcore {

/// A tensor to write; borrowed memory.
struct TensorView {
  std::string name;
  Dtype dtype = Dtype::float32;
  std::vector<std::int64_t> shape;  ///< row-major; empty: one number
  const void* data = nullptr;
};

struct TensorFile {
  struct Tensor {
    std::string name;
    Dtype dtype = Dtype::float32;
    std::vector<std::int64_t> shape;
    std::vector<char> data;
  };
  std::vector<Tensor> tensors;  ///< in the order of the file
  std::map<std::string, std::string> metadata;
};

/// Writes the file, atomically: there is the old one or the whole new one. Metadata: texts in UTF-8; "format",
/// "format_version", "lstmcore_version" and "checksum" are the file's own. Throws std::invalid_argument for names that
/// are empty, twice there or not UTF-8 and for empty tensors, ModelFileError for numbers that are not finite and where
/// writing fails.
LSTMCORE_API void write_tensors(const std::string& path, const std::vector<TensorView>& tensors,
                                const std::map<std::string, std::string>& metadata);

/// Reads what write_tensors() wrote, and treats it as hostile: memory stays in proportion to the file. Throws
/// ModelFileError.
LSTMCORE_API TensorFile read_tensors(const std::string& path);

/// Metadata of any safetensors file, the file's own entries included; tensors and checksum are not looked at. Throws
/// ModelFileError.
LSTMCORE_API std::map<std::string, std::string> read_metadata(const std::string& path);

}  // namespace lstmcore
