#include "model/file/file_io.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <system_error>

#include "model/file/file_error.hpp"

namespace lstmcore::file {
namespace {

// One system call takes at most about 2 GiB on Linux; smaller pieces also let signals through.
constexpr std::size_t largest_piece = std::size_t{1} << 28;

[[noreturn]] void fail(const std::string& what) {
  const int code = errno;
  throw FileError((what.empty() ? std::string() : what + ": ") + std::generic_category().message(code));
}

void refuse_zero_byte(const std::string& path) {
  if (path.find('\0') != std::string::npos) throw FileError("the path contains a zero byte");
}

const char* kind_of(mode_t mode) {
  if (S_ISDIR(mode)) return "it is a directory, not a file";
  if (S_ISFIFO(mode)) return "it is a pipe, not a regular file";
  if (S_ISSOCK(mode)) return "it is a socket, not a regular file";
  return "it is a device, not a regular file";
}

/// Where a symbolic link leads, else the path itself.
std::string follow_link(const std::string& path) {
  struct stat status{};
  if (lstat(path.c_str(), &status) != 0 || !S_ISLNK(status.st_mode)) return path;
  const std::unique_ptr<char, decltype(&std::free)> real(realpath(path.c_str(), nullptr), &std::free);
  if (real == nullptr) fail("cannot follow the symbolic link");
  return real.get();
}

}  // namespace

InputFile::InputFile(const std::string& path) {
  refuse_zero_byte(path);
  descriptor_ = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor_ < 0) fail("");
  struct stat status{};
  if (fstat(descriptor_, &status) != 0) {
    const int code = errno;
    close(descriptor_);
    errno = code;
    fail("cannot read its size");
  }
  if (!S_ISREG(status.st_mode)) {
    close(descriptor_);
    throw FileError(kind_of(status.st_mode));
  }
  size_ = static_cast<std::uint64_t>(status.st_size);
}

InputFile::~InputFile() { close(descriptor_); }

void InputFile::read(void* data, std::size_t bytes) {
  auto* p = static_cast<char*>(data);
  while (bytes > 0) {
    const ssize_t got = ::read(descriptor_, p, std::min(bytes, largest_piece));
    if (got < 0) {
      if (errno == EINTR) continue;
      fail("reading failed");
    }
    if (got == 0) throw FileError("the file became shorter while it was read");
    p += got;
    bytes -= static_cast<std::size_t>(got);
  }
}

AtomicFile::AtomicFile(const std::string& path) {
  refuse_zero_byte(path);
  if (path.empty()) throw FileError("the path is empty");
  target_ = follow_link(path);
  const std::size_t slash = target_.find_last_of('/');
  folder_ = slash == std::string::npos ? "." : target_.substr(0, slash + 1);

  struct stat old{};
  const bool replaces = stat(target_.c_str(), &old) == 0;
  if (replaces) {
    if (!S_ISREG(old.st_mode)) throw FileError(kind_of(old.st_mode));
    // A rename needs no permission on the file that it replaces, but whoever took the permission away meant it.
    if (access(target_.c_str(), W_OK) != 0) fail("the existing file cannot be replaced");
  } else if (slash + 1 == target_.size() && slash != std::string::npos) {
    throw FileError("the path names a folder, not a file");
  }

  // O_EXCL and several attempts instead of mkstemp, whose files are private whatever the user's umask says.
  static std::atomic<unsigned> counter{0};
  for (int attempt = 0; descriptor_ < 0; ++attempt) {
    const auto ticks = static_cast<unsigned long long>(std::chrono::steady_clock::now().time_since_epoch().count());
    temporary_ = (slash == std::string::npos ? std::string() : folder_) + ".lstmcore-" + std::to_string(getpid()) +
                 "-" + std::to_string(counter++) + "-" + std::to_string(ticks) + ".tmp";
    descriptor_ = open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (descriptor_ < 0 && (errno != EEXIST || attempt >= 100)) fail("cannot create a file in " + quoted(folder_, 512));
  }
  // Best effort: some file systems know no permissions.
  if (replaces && fchmod(descriptor_, old.st_mode & 0777) != 0) errno = 0;
}

AtomicFile::~AtomicFile() {
  if (descriptor_ >= 0) close(descriptor_);
  if (!temporary_.empty()) unlink(temporary_.c_str());
}

void AtomicFile::write(const void* data, std::size_t bytes) {
  const auto* p = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t put = ::write(descriptor_, p, std::min(bytes, largest_piece));
    if (put < 0) {
      if (errno == EINTR) continue;
      fail("writing failed");
    }
    p += put;
    bytes -= static_cast<std::size_t>(put);
  }
}

void AtomicFile::commit() {
  // Without this, a crash soon after the rename can leave an empty file under the final name.
  int status = 0;
  do {
    status = fsync(descriptor_);
  } while (status != 0 && errno == EINTR);
  if (status != 0 && errno != EINVAL && errno != ENOTSUP) fail("writing to disk failed");
  const int descriptor = descriptor_;
  descriptor_ = -1;
  if (close(descriptor) != 0) fail("closing failed");
  if (std::rename(temporary_.c_str(), target_.c_str()) != 0) fail("cannot put the new file in place");
  temporary_.clear();
  // The rename itself is durable once the folder is; not every file system offers that, and the file is whole anyway.
  const int folder = open(folder_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder >= 0) {
    fsync(folder);
    close(folder);
  }
}

}  // namespace lstmcore::file
