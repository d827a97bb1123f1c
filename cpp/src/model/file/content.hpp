// What every file of ours promises about its content: finite numbers, and a checksum over all of it.
#pragma once

#include <lstmcore/types.hpp>

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

namespace lstmcore::file {

struct Header;

/// "F32" or "F64".
const char* dtype_text(Dtype dtype) noexcept;

/// FileError naming the tensor and the first element that is NaN or infinite.
void check_finite(const std::string& name, Dtype dtype, const void* data, std::size_t count);

/// "fnv1a64:" and 16 hexadecimal digits over every metadata entry but "checksum" itself, and over name, dtype, shape
/// and data of every tensor, both in the byte order of their names: independent of how the header is laid out, so that
/// other programs may rewrite the file. data_hashes: FNV-1a of each tensor's bytes, by name.
std::string checksum(const Header& header, const std::map<std::string, std::uint64_t>& data_hashes);

/// FileError unless the header's checksum is that of its content.
void check_checksum(const Header& header, const std::map<std::string, std::uint64_t>& data_hashes);

/// The metadata entry; FileError where there is none.
const std::string& required(const Header& header, const char* name);

/// std::invalid_argument for names that the file keeps for itself, and for what is not UTF-8.
void check_user_metadata(const std::map<std::string, std::string>& metadata, bool (*is_reserved)(const std::string&));

}  // namespace lstmcore::file
