// The safetensors container (Hugging Face, https://github.com/huggingface/safetensors, "Format"):
//   8 bytes  length of the header, unsigned, little-endian
//   header   JSON object: tensor name → {"dtype", "shape", "data_offsets": [begin, end]}, and "__metadata__": text →
//   text;
//            starts with '{', may end in spaces
//   data     the tensors, row-major, little-endian; offsets count from the end of the header; no gaps, no overlap
// Stricter here than there: tensors must be aligned to their element size within the file, so that a program may map
// it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace lstmcore::file {

class InputFile;

/// Largest header that is read or written; the limit of the safetensors package too.
constexpr std::uint64_t max_header_bytes = 100'000'000;

struct TensorEntry {
  std::string name;
  std::string dtype;  ///< "F32", "F64", …
  std::vector<std::int64_t> shape;
  std::uint64_t begin = 0;  ///< first byte, counted from the start of the data
  std::uint64_t end = 0;    ///< one past the last byte

  std::uint64_t bytes() const noexcept { return end - begin; }
};

struct Header {
  std::vector<TensorEntry> tensors;                       ///< in the order of their data
  std::map<std::string, std::size_t, std::less<>> index;  ///< name → position in `tensors`; filled by parse_header()
  std::map<std::string, std::string> metadata;

  const TensorEntry* find(std::string_view name) const noexcept;
};

/// Bytes per element, 0 for an unknown dtype.
std::uint64_t dtype_size(std::string_view dtype) noexcept;

/// "[3, 4]".
std::string shape_text(const std::vector<std::int64_t>& shape);

/// Header of a file with `data_bytes` bytes of data, checked in every respect that the format prescribes: when it
/// returns, the tensors tile the data exactly, and their sizes are those of their shapes. Throws FileError.
Header parse_header(std::string_view json, std::uint64_t data_bytes);

/// Reads length and header; the file then stands at the first byte of the data.
Header read_header(InputFile& file);

/// The bytes that precede the data: length and header, padded so that the data start at a multiple of 8.
/// The entries' dtypes and shapes are given; begin and end are filled in, in the order of the entries, so that wider
/// types must come first.
std::string build_header(Header& header);

}  // namespace lstmcore::file
