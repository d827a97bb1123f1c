// Model files that are damaged or made to do damage: every one is a ModelFileError that says what is wrong.
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>

#include "check.hpp"
#include "model_file_tools.hpp"

using lstmcore::ModelFileError;
using lstmcore::file::Json;
using lstmcore::file::write_model;
using tools::load;
using tools::load_config;
using tools::Parts;
using tools::TemporaryFolder;
using tools::with_folder;

namespace {

void test_every_truncation_is_found(const TemporaryFolder& folder) {
  const std::string path = folder / "short";
  write_model(path, tools::make_model(tools::small_config()), {{"classes", "[\"a\", \"b\"]"}});
  const std::string bytes = tools::read_bytes(path);
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    tools::write_bytes(path, bytes.substr(0, length));
    CHECK_THROWS_WITH(load(path), ModelFileError, path);
  }
  tools::write_bytes(path, bytes + '\0');
  CHECK_THROWS_WITH(load(path), ModelFileError, "1 bytes after the last tensor belong to none");
  tools::write_bytes(path, bytes);
  CHECK_EQ(load_config(path).outputs, 2);
}

/// One flipped bit anywhere in the file is seen.
void test_every_flip_is_found(const TemporaryFolder& folder) {
  const std::string path = folder / "flipped";
  write_model(path, tools::make_model(tools::small_config()), {{"classes", "[\"a\", \"b\"]"}});
  const std::string bytes = tools::read_bytes(path);
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    for (const unsigned bit : {static_cast<unsigned>(i % 8), static_cast<unsigned>((i + 5) % 8)}) {
      std::string changed = bytes;
      changed[i] = static_cast<char>(static_cast<unsigned char>(changed[i]) ^ (1U << bit));
      tools::write_bytes(path, changed);
      CHECK_THROWS_WITH(load(path), ModelFileError, path);
    }
  }
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const std::size_t at = text.find(from);
  if (at == std::string::npos) throw std::runtime_error("test: '" + from + "' is not in " + text);
  return text.replace(at, from.size(), to);
}

struct Edit {
  const char* from;
  const char* to;
  const char* message;
};

/// Headers that are wrong in one respect and carry the right checksum.
void test_hostile_headers(const TemporaryFolder& folder) {
  const std::string path = folder / "hostile";
  write_model(path, tools::make_model(tools::small_config()), {{"classes", "[1]"}});
  const Parts good = tools::split(tools::read_bytes(path));
  const Edit edits[] = {
      // the container
      {"\"head_b\":", "\"head_W\":", "stands twice"},
      {"\"dtype\":\"F32\"", "\"dtype\":\"F16\"", "F16 of shape [12, 2] takes 48 bytes"},
      {"\"dtype\":\"F32\"", "\"dtype\":\"I32\"", "expected dtype F32, found I32"},
      {"\"dtype\":\"F32\"", "\"dtype\":\"Q99\"", "unknown dtype: the string 'Q99'"},
      {"\"dtype\":\"F32\"", "\"dtype\":7", "unknown dtype: 7"},
      {"\"dtype\":\"F32\",", "", "'dtype' is missing"},
      {"\"dtype\":\"F32\"", "\"dtype\":\"F32\",\"more\":1", "unknown entry 'more'"},
      {"\"shape\":[12,2]", "\"shape\":[12,3]", "takes 144 bytes, but data_offsets"},
      {"\"shape\":[12,2]", "\"shape\":[2,12]", "expected shape [12, 2], found [2, 12]"},
      {"\"shape\":[12,2]", "\"shape\":[24]", "expected shape [12, 2], found [24]"},
      {"\"shape\":[12,2]", "\"shape\":[12,2,1,1,1,1,1,1,1,1,1]", "found [12, 2, 1, 1, 1, 1, 1, 1, … (11 dimensions)]"},
      {"\"shape\":[12,2]", "\"shape\":[-12,-2]", "found -12"},
      {"\"shape\":[12,2]", "\"shape\":[12.0,2]", "found 12.0"},
      {"\"shape\":[12,2]", "\"shape\":[4611686018427387904,8]", "is too large"},
      {"\"shape\":[12,2]", "\"shape\":[9223372036854775807,9223372036854775807,0]", "is too large"},
      {"\"shape\":[12,2]", "\"shape\":[9223372036854775808]", "found 9223372036854775808"},
      {"\"shape\":[12,2]", "\"shape\":[99999999999999999999]", "does not fit 64 bits"},
      {"\"shape\":[12,2]", "\"shape\":\"12,2\"", "shape must be an array"},
      {"\"shape\":[12,2]", "\"shape\":[true,[]]", "found true"},
      {"\"shape\":[12,2]", "\"shape\":{}", "shape must be an array"},
      {"\"data_offsets\":[64,160]", "\"data_offsets\":[64,18446744073709551615]", "lie outside the 384 bytes"},
      {"\"data_offsets\":[64,160]", "\"data_offsets\":[160,64]", "lie outside"},
      {"\"data_offsets\":[64,160]", "\"data_offsets\":[64,156]", "takes 96 bytes"},
      {"\"data_offsets\":[64,160]", "\"data_offsets\":[66,162]", "not aligned to F32"},
      {"\"data_offsets\":[64,160]", "\"data_offsets\":[68,164]", "a gap of 4 bytes before tensor 'W_l0'"},
      {"\"data_offsets\":[64,160]", "\"data_offsets\":[60,156]", "'output_scale' and 'W_l0' overlap"},
      {"\"data_offsets\":[64,160]", "\"data_offsets\":[160,256]", "a gap of 96 bytes before tensor"},
      {"\"data_offsets\":[64,160]", "\"data_offsets\":[-64,160]", "must be two integers"},
      {"\"data_offsets\":[64,160]", "\"data_offsets\":[64.0,160]", "must be two integers"},
      {"\"data_offsets\":[64,160]", "\"data_offsets\":[64]", "must be two integers"},
      {"\"data_offsets\":[64,160]", "\"data_offsets\":64", "must be two integers"},
      {",\"data_offsets\":[64,160]", "", "'data_offsets' is missing"},
      {"\"W_l0\":{", "\"W_l0\":[{", "not valid JSON"},
      {"\"W_l0\":", "\"W_l9\":", "tensor 'W_l0' is missing"},
      {"\"W_l0\":", "\"W\\ud800\":", "surrogate"},
      {"\"W_l0\":", "\"W\xff\":", "not UTF-8"},
      {"\"W_l0\":", "\"W_l0\":7,\"more\":", "tensor 'W_l0': expected an object, found 7"},
      {"\"W_l0\":", "\"extra\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[64,64]},\"W_l0\":",
       "tensor 'extra' does not belong to this architecture"},
      {"{\"__metadata__\":{", "{\"__metadata__\":7,\"x\":{", "'__metadata__' must be an object, found 7"},
      {"{\"__metadata__\"", "{\"metadata__\"", "tensor 'metadata__': unknown entry"},
      {"{\"__metadata__\"", "7{\"__metadata__\"", "does not start with '{'"},
      {"{\"__metadata__\"", " {\"__metadata__\"", "does not start with '{'"},
      {"\"classes\":\"[1]\"", "\"classes\":[1]", "metadata 'classes' must be a string, found an array"},
      {"\"classes\":\"[1]\"", "\"classes\":null", "metadata 'classes' must be a string, found null"},
      // the metadata
      {"\"format\":\"lstmcore\"", "\"format\":\"pt\"", "not a model of lstmcore (metadata 'format' is 'pt')"},
      {"\"format\":\"lstmcore\",", "", "not a model of lstmcore (metadata 'format' is missing)"},
      {"\"format_version\":\"1\"", "\"format_version\":\"4\"", "format version '4' is unknown"},
      {"\"format_version\":\"1\"", "\"format_version\":\"2\"", "'quantization' is missing"},
      {"\"format_version\":\"1\",", "", "metadata 'format_version' is missing"},
      {"\"checksum\"", "\"chksum\"", "metadata 'checksum' is missing"},
      {"\"test_vector\"", "\"testvector\"", "metadata 'test_vector' is missing"},
      {"\"model\":\"{", "\"mod\":\"{", "metadata 'model' is missing"},
      {"\"model\":\"{", "\"model\":\"", "metadata 'model' is not valid JSON"},
      {"\"model\":\"{", "\"model\":\"[{", "metadata 'model' is not valid JSON"},
      // the architecture
      {"\\\"cell\\\":\\\"lstm\\\"", "\\\"cell\\\":\\\"warp\\\"", "cell: expected one of elman, "},
      {"\\\"cell\\\":\\\"lstm\\\"", "\\\"cell\\\":7", "model.recurrent.cell: expected a string, found 7"},
      {"\\\"cell\\\":\\\"lstm\\\"", "\\\"cell\\\":\\\"elman\\\"", "expected shape [3, 2], found [12, 2]"},
      {"\\\"cell\\\":\\\"lstm\\\",", "", "model.recurrent: 'cell' is missing"},
      {"\\\"cell\\\":", "\\\"cell_\\\":", "model.recurrent: unknown entry 'cell_'"},
      {"\\\"input_size\\\":2", "\\\"input_size\\\":0", "model.recurrent.input_size: expected an integer from 1"},
      {"\\\"input_size\\\":2", "\\\"input_size\\\":-2", "found -2"},
      {"\\\"input_size\\\":2", "\\\"input_size\\\":2.0", "found 2.0"},
      {"\\\"input_size\\\":2", "\\\"input_size\\\":true", "found true"},
      {"\\\"input_size\\\":2", "\\\"input_size\\\":9223372036854775807", "input_size: expected an integer from 1"},
      {"\\\"input_size\\\":2", "\\\"input_size\\\":18446744073709551618", "not valid JSON"},
      {"\\\"hidden_size\\\":3", "\\\"hidden_size\\\":1000000000", "more weights than can be addressed"},
      {"\\\"hidden_size\\\":3", "\\\"hidden_size\\\":9223372036854775807", "hidden_size: expected an integer from 1"},
      {"\\\"num_layers\\\":1", "\\\"num_layers\\\":9223372036854775807",
       "num_layers: expected an integer from 1 to 10000"},
      {"\\\"num_layers\\\":1", "\\\"num_layers\\\":2", "tensor 'W_l1' is missing"},
      {"\\\"num_layers\\\":1", "\\\"num_layers\\\":0", "num_layers: expected an integer from 1"},
      {"\\\"bidirectional\\\":false", "\\\"bidirectional\\\":true", "tensor 'W_l0_reverse' is missing"},
      {"\\\"bidirectional\\\":false", "\\\"bidirectional\\\":0", "expected true or false, found 0"},
      {"\\\"dropout\\\":0.0", "\\\"dropout\\\":1.5", "dropout"},
      {"\\\"dropout\\\":0.0", "\\\"dropout\\\":-0.5", "dropout"},
      {"\\\"dropout\\\":0.0", "\\\"dropout\\\":1e999", "does not fit a double"},
      {"\\\"dropout\\\":0.0", "\\\"dropout\\\":NaN", "not valid JSON"},
      {"\\\"dtype\\\":\\\"float32\\\"", "\\\"dtype\\\":\\\"float16\\\"", "expected one of 'float32', 'float64'"},
      {"\\\"dtype\\\":\\\"float32\\\"", "\\\"dtype\\\":\\\"float64\\\"", "expected dtype F64, found F32"},
      {"\\\"seed\\\":7", "\\\"seed\\\":-7", "expected an integer from 0 to 2^64 - 1, found -7"},
      {"\\\"cell_options\\\":{}", "\\\"cell_options\\\":[]", "cell_options: expected an object"},
      {"\\\"cell_options\\\":{}", "\\\"cell_options\\\":{\\\"warp\\\":9}", "warp"},
      {"\\\"cell_options\\\":{}", "\\\"cell_options\\\":{\\\"warp\\\":null}",
       "expected true, false, a number or a string"},
      {"\\\"cell_options\\\":{}", "\\\"cell_options\\\":{\\\"w\\\":[[]]}",
       "expected true, false, a number or a string"},
      {"\\\"pooling\\\":\\\"last\\\"", "\\\"pooling\\\":\\\"first\\\"", "expected one of 'last', 'mean', 'max'"},
      {"\\\"activation\\\":\\\"identity\\\"", "\\\"activation\\\":\\\"x\\\"", "expected one of 'identity', 'softmax'"},
      {"\\\"outputs\\\":2", "\\\"outputs\\\":3", "tensor 'head_W': expected shape [3, 3], found [2, 3]"},
      {"\\\"outputs\\\":2", "\\\"outputs\\\":9223372036854775807", "outputs: expected an integer from 1 to 2147483648"},
      {"\\\"outputs\\\":2", "\\\"outputs\\\":2,\\\"more\\\":{}", "model: unknown entry 'more'"},
      {"\\\"pooling_size\\\":0", "\\\"pooling_size\\\":-1", "pooling_size: expected an integer from 0"},
      {"\\\"pooling_size\\\":0", "\\\"pooling_size\\\":3", "pooling_size: expected 0 with any pooling but attention"},
      {"\\\"pooling_patterns\\\":1", "\\\"pooling_patterns\\\":0", "pooling_patterns: expected an integer from 1"},
      {"\\\"pooling_updates\\\":1", "\\\"pooling_updates\\\":101",
       "pooling_updates: expected an integer from 0 to 100"},
      {"\\\"pooling_beta\\\":0.0", "\\\"pooling_beta\\\":-1.0", "pooling_beta: expected a number above 0"},
      {"\\\"head_sizes\\\":[]", "\\\"head_sizes\\\":[3]", "tensor 'head_W_l0' is missing"},
      {"\\\"head_sizes\\\":[]", "\\\"head_sizes\\\":[-3]", "head_sizes: expected integers from 1"},
      {"\\\"head_sizes\\\":[]", "\\\"head_sizes\\\":{}", "head_sizes: expected an array of integers"},
      {"\\\"head_dropout\\\":0.0", "\\\"head_dropout\\\":0.5", "head_dropout: expected 0 without hidden layers"},
      // the test vector
      {"\\\"output\\\":[", "\\\"output\\\":[1,", "test_vector.output: expected an array of 2 numbers"},
      {"\\\"output\\\":[", "\\\"outputs\\\":[", "test_vector: expected an object with 'input' and 'output'"},
      {"\\\"output\\\":[", "\\\"output\\\":[], \\\"more\\\":[", "test_vector: expected an object"},
      {"\\\"input\\\":[[", "\\\"input\\\":[[1.0,", "test_vector.input: expected an array of 2 numbers"},
      {"\\\"input\\\":[[", "\\\"input\\\":[7,[", "test_vector.input: expected an array of 2 numbers, found 7"},
      {"\\\"input\\\":[[", "\\\"input\\\":[[\\\"a\\\",1.0],[",
       "a number that the model's dtype can hold, found the string"},
      {"\\\"input\\\":[[", "\\\"input\\\":[[1e39,1.0],[", "a number that the model's dtype can hold, found 1e+39"},
      {"\\\"input\\\":[[", "\\\"input\\\":[[0.9,-0.3],[", "does not reproduce the test vector"},
  };
  for (const Edit& edit : edits) {
    Parts parts = good;
    parts.header = replaced(parts.header, edit.from, edit.to);
    tools::write_bytes(path, tools::join(tools::resealed(parts)));
    CHECK_THROWS_WITH(load(path), ModelFileError, edit.message);
    CHECK_THROWS_WITH(load(path), ModelFileError, path);
  }
  // Unchanged and sealed by the test's own checksum it is still the good file.
  tools::write_bytes(path, tools::join(tools::resealed(good)));
  CHECK_EQ(load_config(path).recurrent.hidden_size, 3);
}

void test_hostile_lengths(const TemporaryFolder& folder) {
  const std::string path = folder / "lengths";
  write_model(path, tools::make_model(tools::small_config()), {});
  const std::string bytes = tools::read_bytes(path);
  const auto with_length = [&bytes](std::uint64_t length) { return tools::little_endian(length) + bytes.substr(8); };
  const std::pair<std::uint64_t, const char*> cases[] = {
      {0, "does not start with '{'"},
      {1, "misaligns the tensors"},
      {8, "not valid JSON"},
      {bytes.size() - 8, "not valid JSON"},
      {bytes.size() - 7, "announce a header of"},
      {bytes.size(), "announce a header of"},
      {100'000'001, "announce a header of"},
      {std::uint64_t{1} << 40, "announce a header of"},
      {std::uint64_t{1} << 63, "announce a header of"},
      {~std::uint64_t{0}, "announce a header of"},
      {~std::uint64_t{0} - 7, "announce a header of"},
  };
  for (const auto& [length, message] : cases) {
    tools::write_bytes(path, with_length(length));
    CHECK_THROWS_WITH(load(path), ModelFileError, message);
  }
  // A sparse file that is long enough for its header, which is beyond the limit.
  tools::write_bytes(path, with_length(100'000'008));
  CHECK(truncate(path.c_str(), 100'000'100) == 0);
  CHECK_THROWS_WITH(load(path), ModelFileError, "beyond the limit of 100000000");
  tools::write_bytes(path, "PK\x03\x04");
  CHECK_THROWS_WITH(load(path), ModelFileError, "it has only 4 bytes");
  tools::write_bytes(path, "");
  CHECK_THROWS_WITH(load(path), ModelFileError, "it has only 0 bytes");
}

void test_hostile_json(const TemporaryFolder& folder) {
  const std::string path = folder / "json";
  const auto write = [&path](const std::string& header) { tools::write_bytes(path, tools::join({header, ""})); };
  write("{\"a\":" + std::string(1'000'000, '[') + "}");
  CHECK_THROWS_WITH(load(path), ModelFileError, "deeper than 64 levels");
  std::string nested;
  for (int i = 0; i < 1'000'000; ++i) nested += "{\"a\":";
  write(nested);
  CHECK_THROWS_WITH(load(path), ModelFileError, "deeper than 64 levels");
  std::string many = "{\"__metadata__\":{\"a\":[0";
  for (int i = 0; i < 5'000'000; ++i) many += ",0";
  write(many + "]}}");
  CHECK_THROWS_WITH(load(path), ModelFileError, "more than 4194304 values");
  // Many layers that are all there, of size 1, then one that is not: time in proportion to the file.
  std::string tensors;
  for (int i = 0; i < 20'000; ++i) {
    const std::string offsets = "[" + std::to_string(i * 4) + "," + std::to_string(i * 4 + 4) + "]";
    tensors += ",\"R_l" + std::to_string(i) + "\":{\"dtype\":\"F32\",\"shape\":[1,1],\"data_offsets\":" + offsets + "}";
  }
  tools::write_bytes(
      path, tools::join({"{\"__metadata__\":{\"format\":\"lstmcore\",\"format_version\":\"1\"}" + tensors + "}",
                         std::string(80'000, '\0')}));
  CHECK_THROWS_WITH(load(path), ModelFileError, "metadata 'model' is missing");
  write("{}");
  CHECK_THROWS_WITH(load(path), ModelFileError, "not a model of lstmcore");
}

/// Numbers that no trained model has, in a file that is otherwise right.
void test_hostile_numbers(const TemporaryFolder& folder) {
  const std::string path = folder / "numbers";
  write_model(path, tools::make_model(tools::small_config()), {});
  const Parts good = tools::split(tools::read_bytes(path));
  const Json root = Json::parse(good.header);
  const auto store = [&](const char* name, std::size_t index, auto value) {
    Parts parts = good;
    const std::size_t begin = tools::extent_of(*root.find(name)).begin;
    std::memcpy(parts.data.data() + begin + index * sizeof value, &value, sizeof value);
    tools::write_bytes(path, tools::join(tools::resealed(parts)));
  };
  const double infinity = std::numeric_limits<double>::infinity();
  for (const char* name : {"W_l0", "R_l0", "b_l0", "head_W", "head_b"}) {
    store(name, 1, std::numeric_limits<float>::quiet_NaN());
    CHECK_THROWS_WITH(load(path), ModelFileError,
                      "tensor '" + std::string(name) + "' holds a value that is not finite");
    store(name, 0, -std::numeric_limits<float>::infinity());
    CHECK_THROWS_WITH(load(path), ModelFileError, "not finite (-inf) at index 0");
  }
  for (const char* name : {"input_mean", "input_scale", "output_mean", "output_scale"}) {
    for (const double value : {std::nan(""), infinity, -infinity}) {
      store(name, 1, value);
      CHECK_THROWS_WITH(load(path), ModelFileError,
                        "tensor '" + std::string(name) + "' holds a value that is not finite");
    }
  }
  store("input_scale", 0, -1.0);
  CHECK_THROWS_WITH(load(path), ModelFileError, "tensor 'input_scale' holds -1.0");
  store("output_scale", 0, -1.0);
  CHECK_THROWS_WITH(load(path), ModelFileError, "tensor 'output_scale' holds -1.0");
  store("input_scale", 1, 0.0);
  CHECK_THROWS_WITH(load(path), ModelFileError, "tensor 'input_scale' holds 0.0");
  store("output_scale", 1, 0.0);
  CHECK_THROWS_WITH(load(path), ModelFileError, "tensor 'output_scale' holds 0.0");
  // Sealed with the right checksum, a changed weight is still seen, by what the model computes.
  store("head_b", 0, 3.0F);
  CHECK_THROWS_WITH(load(path), ModelFileError, "does not reproduce the test vector in the file: output 0 is");
  store("output_mean", 1, 1e6);
  CHECK_THROWS_WITH(load(path), ModelFileError, "does not reproduce the test vector in the file: output 1 is ");
  // Not sealed: a change too small for the test vector.
  Parts parts = good;
  parts.data.back() = static_cast<char>(parts.data.back() ^ 1);
  std::swap(parts.data[64], parts.data[65]);
  tools::write_bytes(path, tools::join(parts));
  CHECK_THROWS_WITH(load(path), ModelFileError, "the file is damaged: its checksum is 'fnv1a64:");
  tools::write_bytes(path, tools::join(good));
  CHECK_EQ(load_config(path).outputs, 2);
}

}  // namespace

int main() {
  with_folder(test_every_truncation_is_found);
  with_folder(test_every_flip_is_found);
  with_folder(test_hostile_headers);
  with_folder(test_hostile_lengths);
  with_folder(test_hostile_json);
  with_folder(test_hostile_numbers);
  return check::result();
}
