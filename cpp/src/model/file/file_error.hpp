// The error that everything below the model file throws; model_file.cpp adds the file's name and makes it a
// ModelFileError.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace lstmcore::file {

/// What is wrong with a file, without the file's name.
class FileError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// True when text is UTF-8 as RFC 3629 defines it: no overlong forms, no surrogates, nothing above U+10FFFF.
bool is_utf8(std::string_view text) noexcept;

/// text in single quotes for an error message: always UTF-8, control characters escaped, cut when longer than `limit`
/// bytes. Names inside a hostile file and paths in a foreign encoding pass through here, since Python refuses
/// messages that are not UTF-8.
std::string quoted(std::string_view text, std::size_t limit = 96);

}  // namespace lstmcore::file
