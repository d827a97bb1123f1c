// Mutated model files: reading one gives a model or a ModelFileError, never anything else.
//
// Two programs from one source. As a test it walks through a fixed sequence of mutations of small good files
// (fuzz_model_file [count] [seed]), half of them with the checksum put right again so that what lies behind it is
// reached. Built by Clang with -DLSTMCORE_FUZZ=ON it is a libFuzzer target, for open-ended search.
#include <sys/resource.h>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <vector>

#include "model/file/model_file.hpp"
#include "model_file_tools.hpp"

namespace {

using lstmcore::ModelFileError;
using tools::Random;

/// True when the file was accepted. Any exception but ModelFileError leaves, and ends the program.
bool try_file(const std::string& path, const std::string& bytes) {
  tools::write_bytes(path, bytes);
  std::map<std::string, std::string> metadata;
  try {
    const lstmcore::Model model = lstmcore::file::read_model(path, metadata);
    return model.parameter_count() > 0;
  } catch (const ModelFileError&) {
    return false;
  }
}

/// Right values in the wrong place, and values at the ends of their ranges, find more than random bytes do.
constexpr const char* tokens[] = {"0",
                                  "-1",
                                  "1",
                                  "2",
                                  "4294967296",
                                  "9223372036854775807",
                                  "1e308",
                                  "-0.0",
                                  "18446744073709551615",
                                  "null",
                                  "true",
                                  "\"\"",
                                  "[]",
                                  "{}",
                                  "[",
                                  "]",
                                  "{",
                                  "}",
                                  ",",
                                  ":",
                                  "\"",
                                  "\\",
                                  "\\\"",
                                  "\\u0000",
                                  "\\ud800",
                                  "\xff",
                                  " ",
                                  "\n",
                                  "F64",
                                  "I8",
                                  "__metadata__",
                                  "W_l1",
                                  "_reverse",
                                  "lstm",
                                  "elman",
                                  "float64",
                                  "softmax",
                                  "999999999"};

bool is_digit(char c) { return c >= '0' && c <= '9'; }

/// One change somewhere in the header.
void mutate_header(std::string& text, Random& random) {
  if (text.empty()) text = "{";
  const std::size_t at = random.below(text.size());
  const std::string token = tokens[random.below(std::size(tokens))];
  switch (random.below(7)) {
    case 0:
      text[at] = static_cast<char>(text[at] ^ (1 << random.below(8)));
      break;
    case 1:
      text.insert(at, token);
      break;
    case 2:
      text.erase(at, 1 + random.below(8));
      break;
    case 3:
      text.insert(at, text.substr(random.below(text.size()), 1 + random.below(64)));
      break;
    case 4:
      text.replace(at, 1 + random.below(16), token);
      break;
    default: {  // the next number becomes another one
      std::size_t begin = at;
      while (begin < text.size() && !is_digit(text[begin])) ++begin;
      std::size_t end = begin;
      while (end < text.size() && is_digit(text[end])) ++end;
      text.replace(begin, end - begin, random.below(2) == 0 ? token : std::to_string(random.below(40)));
    }
  }
}

void mutate_data(std::string& data, Random& random) {
  if (data.empty()) return;
  const std::size_t at = random.below(data.size());
  switch (random.below(4)) {
    case 0:
      data[at] = static_cast<char>(data[at] ^ (1 << random.below(8)));
      break;
    case 1:
      data.replace(at, 4, 4, '\xff');
      break;
    case 2:
      data.resize(at);
      break;
    default:
      data.insert(at, 1 + random.below(64), '\x7f');
  }
}

std::string mutate(const std::string& good, Random& random) {
  tools::Parts parts = tools::split(good);
  const std::size_t changes = 1 + random.below(3);
  for (std::size_t i = 0; i < changes; ++i) {
    random.below(5) == 0 ? mutate_data(parts.data, random) : mutate_header(parts.header, random);
  }
  if (random.below(2) == 0) parts = tools::resealed(parts);
  std::string bytes = tools::join(parts);
  if (random.below(16) == 0) bytes.resize(random.below(bytes.size() + 1));
  if (random.below(16) == 0) bytes.replace(0, 8, tools::little_endian(random.bits() << random.below(33)));
  return bytes;
}

std::vector<std::string> good_files(const std::string& path) {
  std::vector<std::string> files;
  for (const char* kind : {"small", "quantised", "large"}) {
    lstmcore::ModelConfig config = tools::small_config();
    if (kind == std::string("quantised")) config.quantization = lstmcore::Quantization::dynamic_int8;
    if (kind == std::string("large")) {
      config.recurrent.cell = "elman";
      config.recurrent.cell_options["nonlinearity"] = std::string("relu");
      config.recurrent.num_layers = 2;
      config.recurrent.bidirectional = true;
      config.recurrent.dtype = lstmcore::Dtype::float64;
      config.activation = lstmcore::Activation::softmax;
    }
    lstmcore::file::write_model(path, tools::make_model(config), {{"classes", "[\"a\", \"b\"]"}});
    files.push_back(tools::read_bytes(path));
  }
  return files;
}

#if !defined(LSTMCORE_FUZZ)
/// A hostile size shows as a huge allocation; where the tools allow it, such an allocation fails the test.
void limit_memory() {
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  rlimit limit{};
  if (getrlimit(RLIMIT_AS, &limit) == 0) {
    limit.rlim_cur = rlim_t{8} << 30;
    setrlimit(RLIMIT_AS, &limit);
  }
#endif
}

long peak_kilobytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss;
}
#endif

}  // namespace

#if defined(LSTMCORE_FUZZ)

/// The input is the whole file, or, where its first byte is 0xFF, a file that is to be sealed before it is read.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const tools::TemporaryFolder folder;
  std::string bytes(reinterpret_cast<const char*>(data), size);
  if (size >= 9 && data[0] == 0xFF) {
    bytes.erase(0, 1);
    std::uint64_t length = 0;
    std::memcpy(&length, bytes.data(), 8);
    if (length <= bytes.size() - 8) bytes = tools::join(tools::resealed(tools::split(bytes)));
  }
  try_file(folder / "fuzz", bytes);
  return 0;
}

/// Good files to start from: fuzz_model_file -runs=0 does not need them, a search finds little without them.
extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max_size);
extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t max_size,
                                               unsigned seed) {
  static const std::vector<std::string> good = [] {
    const tools::TemporaryFolder folder;
    return good_files(folder / "good");
  }();
  Random random(seed);
  if (size >= 9 && random.below(8) != 0) return LLVMFuzzerMutate(data, size, max_size);
  const std::string bytes = mutate(good[random.below(good.size())], random);
  if (bytes.size() > max_size) return LLVMFuzzerMutate(data, size, max_size);
  std::memcpy(data, bytes.data(), bytes.size());
  return bytes.size();
}

#else

int main(int argc, char** argv) {
  const long count = argc > 1 ? std::strtol(argv[1], nullptr, 10) : 5000;
  const unsigned long seed = argc > 2 ? std::strtoul(argv[2], nullptr, 10) : 1;
  const tools::TemporaryFolder folder;
  const std::string path = folder / "fuzz";
  const std::vector<std::string> good = good_files(path);
  for (const std::string& bytes : good) {
    if (!try_file(path, bytes)) {
      std::fprintf(stderr, "a good file was refused\n");
      return 1;
    }
  }
  limit_memory();
  const long before = peak_kilobytes();
  long accepted = 0;
  std::string bytes;
  for (long i = 0; i < count; ++i) {
    Random random(seed + static_cast<unsigned long>(i) * 0x9e3779b97f4a7c15U);
    bytes = mutate(good[static_cast<std::size_t>(i) % good.size()], random);
    try {
      accepted += try_file(path, bytes) ? 1 : 0;
    } catch (const std::exception& error) {
      std::fprintf(stderr, "mutation %ld of seed %lu: %s\n", i, seed, error.what());
      tools::write_bytes("fuzz_model_file.failed", bytes);
      return 1;
    }
  }
  const long grown = peak_kilobytes() - before;
  std::printf("%ld mutated files, %ld of them accepted, memory grew by %ld kB\n", count, accepted, grown);
  // Mutations that leave the file right exist (another seed or dropout under a right checksum), but not many.
  if (accepted * 4 > count) {
    std::fprintf(stderr, "too many accepted\n");
    return 1;
  }
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // which keep what was freed
  if (grown > 64L * 1024) {
    std::fprintf(stderr, "memory out of proportion to files of %zu bytes\n", good.back().size());
    return 1;
  }
#endif
  return 0;
}

#endif
