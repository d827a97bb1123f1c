// Reading a regular file, and replacing a file in one step. Every failure is a FileError with the system's reason.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace lstmcore::file {

/// A regular file opened for reading, front to back. Directories, pipes and devices are refused (a pipe without
/// waiting for its writer).
class InputFile {
 public:
  explicit InputFile(const std::string& path);
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  std::uint64_t size() const noexcept { return size_; }  ///< when it was opened
  /// Exactly that many bytes; an earlier end of the file is an error.
  void read(void* data, std::size_t bytes);

 private:
  int descriptor_ = -1;
  std::uint64_t size_ = 0;
};

/// A new file that takes its name only when it is whole: written under a temporary name in the same folder, flushed to
/// disk, then renamed over the old one. Without commit() the temporary file is removed and the old one stays as it was.
/// A symbolic link is followed, an existing file's permissions are kept, and one without write permission is refused.
class AtomicFile {
 public:
  explicit AtomicFile(const std::string& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(const void* data, std::size_t bytes);
  void commit();

 private:
  std::string target_;
  std::string folder_;
  std::string temporary_;  ///< empty once renamed
  int descriptor_ = -1;
};

}  // namespace lstmcore::file
