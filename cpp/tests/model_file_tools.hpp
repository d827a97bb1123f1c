// For the tests of the model file: taking files apart and putting them together again, with a checksum computed from
// the description in docs/model-file.md, independently of the code under test.
#pragma once

#include <lstmcore/model.hpp>

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "model/file/json.hpp"
#include "model/file/model_file.hpp"

namespace tools {

/// A folder that is removed with the files in it.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    const char* base = std::getenv("TMPDIR");
    std::string name = std::string(base != nullptr ? base : "/tmp") + "/lstmcore-test-XXXXXX";
    if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("cannot create " + name);
    path_ = name;
  }
  ~TemporaryFolder() {
    chmod(path_.c_str(), 0700);
    for (const std::string& name : list()) {
      if (unlink((*this / name).c_str()) != 0) rmdir((*this / name).c_str());
    }
    rmdir(path_.c_str());
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  std::vector<std::string> list() const {
    std::vector<std::string> names;
    DIR* folder = opendir(path_.c_str());
    if (folder == nullptr) return names;
    while (const dirent* entry = readdir(folder)) {
      const std::string name = entry->d_name;
      if (name != "." && name != "..") names.push_back(name);
    }
    closedir(folder);
    return names;
  }

 private:
  std::string path_;
};

inline std::string read_bytes(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
}

inline void write_bytes(const std::string& path, const std::string& bytes) {
  unlink(path.c_str());  // ext4 flushes a file to disk that is truncated and written anew, which takes milliseconds
  std::ofstream(path, std::ios::binary | std::ios::trunc)
      .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

/// A file in its two parts.
struct Parts {
  std::string header;
  std::string data;
};

inline Parts split(const std::string& bytes) {
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), 8);
  return {bytes.substr(8, length), bytes.substr(8 + length)};
}

inline std::string join(Parts parts) {
  while (parts.header.size() % 8 != 0) parts.header += ' ';
  const std::uint64_t length = parts.header.size();
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes + parts.header + parts.data;
}

inline std::uint64_t fnv1a(const std::string& bytes, std::uint64_t hash = 14695981039346656037U) {
  for (const char c : bytes) {
    hash ^= static_cast<unsigned char>(c);
    hash *= 1099511628211U;
  }
  return hash;
}

inline std::string little_endian(std::uint64_t value) {
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &value, 8);
  return bytes;
}

/// Where a tensor of a good file lies in the data.
struct Extent {
  std::size_t begin;
  std::size_t end;
};

inline Extent extent_of(const lstmcore::file::Json& entry) {
  const auto& offsets = *entry.find("data_offsets")->as_array();
  const auto begin = offsets.at(0).as_uint64();
  const auto end = offsets.at(1).as_uint64();
  if (!begin || !end) throw std::runtime_error("test: data_offsets are not integers");
  return {static_cast<std::size_t>(*begin), static_cast<std::size_t>(*end)};
}

/// The checksum that belongs to these contents, or nothing when the header is too broken to have one.
inline std::optional<std::string> expected_checksum(const Parts& parts) {
  using lstmcore::file::Json;
  try {
    const Json root = Json::parse(parts.header);
    std::map<std::string, std::string> metadata;
    std::map<std::string, std::string> tensors;
    if (root.find("__metadata__") == nullptr) return std::nullopt;
    for (const Json::Member& member : *root.as_object()) {
      if (member.name == "__metadata__") {
        if (member.value.as_object() == nullptr) return std::nullopt;
        for (const Json::Member& entry : *member.value.as_object()) {
          if (entry.value.as_string() == nullptr) return std::nullopt;
          if (entry.name != "checksum") metadata[entry.name] = *entry.value.as_string();
        }
        continue;
      }
      const Json* dtype = member.value.find("dtype");
      const Json* shape = member.value.find("shape");
      const Json* offsets = member.value.find("data_offsets");
      if (dtype == nullptr || shape == nullptr || offsets == nullptr || dtype->as_string() == nullptr ||
          shape->as_array() == nullptr || offsets->as_array() == nullptr || offsets->as_array()->size() != 2) {
        return std::nullopt;
      }
      const auto begin = (*offsets->as_array())[0].as_uint64();
      const auto end = (*offsets->as_array())[1].as_uint64();
      if (!begin || !end || *begin > *end || *end > parts.data.size()) return std::nullopt;
      std::string text = little_endian(dtype->as_string()->size()) + *dtype->as_string();
      text += little_endian(shape->as_array()->size());
      for (const Json& extent : *shape->as_array()) {
        const auto value = extent.as_int64();
        if (!value) return std::nullopt;
        text += little_endian(static_cast<std::uint64_t>(*value));
      }
      tensors[member.name] = text + little_endian(fnv1a(parts.data.substr(*begin, *end - *begin)));
    }
    std::string all;
    for (const auto& [name, value] : metadata) {
      all.append(little_endian(name.size())).append(name).append(little_endian(value.size())).append(value);
    }
    for (const auto& [name, text] : tensors) all.append(little_endian(name.size())).append(name).append(text);
    char buffer[32];
    std::snprintf(buffer, sizeof buffer, "fnv1a64:%016llx", static_cast<unsigned long long>(fnv1a(all)));
    return buffer;
  } catch (const lstmcore::file::JsonError&) {
    return std::nullopt;
  }
}

/// Puts the right checksum into a changed header, where that is possible, so that the change itself is what is found.
inline Parts resealed(Parts parts) {
  const std::size_t at = parts.header.find("fnv1a64:");
  const auto checksum = expected_checksum(parts);
  if (at != std::string::npos && at + 24 <= parts.header.size() && checksum) parts.header.replace(at, 24, *checksum);
  return parts;
}

/// Deterministic numbers for weights and inputs, in (−1, 1).
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed * 2 + 1) {}
  std::uint64_t bits() {
    state_ = state_ * 6364136223846793005U + 1442695040888963407U;
    return state_ >> 33;
  }
  double next() { return static_cast<double>(bits()) / 1073741824.0 - 1.0; }
  std::size_t below(std::size_t n) { return static_cast<std::size_t>(bits() % n); }

 private:
  std::uint64_t state_;
};

inline lstmcore::ModelConfig small_config() {
  lstmcore::ModelConfig config;
  config.recurrent.cell = "lstm";
  config.recurrent.input_size = 2;
  config.recurrent.hidden_size = 3;
  config.recurrent.seed = 7;
  config.outputs = 2;
  return config;
}

/// The model of a config, with preprocessing that is not the identity.
inline lstmcore::Model make_model(const lstmcore::ModelConfig& config) {
  lstmcore::Model model(config);
  Random random(3);
  const auto vector = [&random](std::int64_t count, bool positive) {
    std::vector<double> values;
    values.reserve(static_cast<std::size_t>(count));
    for (std::int64_t i = 0; i < count; ++i) values.push_back(positive ? 1.5 + random.next() : 10.0 * random.next());
    return values;
  };
  const std::int64_t inputs = config.recurrent.input_size;
  // Sorted out one after another: arguments of a call are evaluated in no fixed order.
  const std::vector<double> input_mean = vector(inputs, false);
  const std::vector<double> input_scale = vector(inputs, true);
  const bool identity = config.activation == lstmcore::Activation::identity;
  const auto outputs = static_cast<std::size_t>(config.outputs);
  const std::vector<double> output_mean = identity ? vector(config.outputs, false) : std::vector<double>(outputs, 0.0);
  const std::vector<double> output_scale = identity ? vector(config.outputs, true) : std::vector<double>(outputs, 1.0);
  model.set_preprocessing(input_mean, input_scale, output_mean, output_scale);
  return model;
}

inline lstmcore::Model load(const std::string& path) {
  std::map<std::string, std::string> metadata;
  return lstmcore::file::read_model(path, metadata);
}

inline lstmcore::ModelConfig load_config(const std::string& path) { return load(path).config(); }

/// Runs one test in a folder of its own.
template <class Test>
void with_folder(Test&& test) {
  const TemporaryFolder folder;
  test(folder);
}

}  // namespace tools
