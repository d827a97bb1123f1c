// write_tensors() and read_tensors() through the public API. Hostile files: tests/test_tensor_file.py.
#include "check.hpp"

#include <lstmcore/lstmcore.hpp>

#include <array>
#include <cstdio>
#include <cstring>
#include <limits>
#include <string>

using namespace lstmcore;

namespace {

const std::string path = "test_tensor_file.tmp";

void there_and_back() {
  const std::array<float, 3> singles = {1.5F, -0.0F, 3.25F};
  const std::array<double, 2> doubles = {0.1, 5e-324};
  write_tensors(path, {{"a", Dtype::float32, {3, 1}, singles.data()}, {"b", Dtype::float64, {2}, doubles.data()}},
                {{"key", "text"}});
  const TensorFile file = read_tensors(path);
  CHECK_EQ(file.tensors.size(), 2u);
  CHECK_EQ(file.tensors[0].name, "b");  // the wider type comes first, so that every tensor is aligned
  CHECK_EQ(file.tensors[1].name, "a");
  CHECK(file.tensors[0].dtype == Dtype::float64 && file.tensors[1].dtype == Dtype::float32);
  CHECK(file.tensors[1].shape == (std::vector<std::int64_t>{3, 1}));
  CHECK(file.tensors[0].data.size() == sizeof(doubles) && file.tensors[1].data.size() == sizeof(singles));
  CHECK(std::memcmp(file.tensors[0].data.data(), doubles.data(), sizeof(doubles)) == 0);
  CHECK(std::memcmp(file.tensors[1].data.data(), singles.data(), sizeof(singles)) == 0);
  CHECK(file.metadata == (std::map<std::string, std::string>{{"key", "text"}}));
  CHECK(read_metadata(path).at("format") == "lstmcore.tensors");
  CHECK_THROWS_WITH(Model::load(path), ModelFileError, "not a model of lstmcore");
}

void refusals() {
  const std::array<double, 2> numbers = {1.0, std::numeric_limits<double>::infinity()};
  const auto write = [&](const TensorView& tensor) {
    write_tensors(path, {tensor}, {});
    return 0;
  };
  CHECK_THROWS_WITH(write({"a", Dtype::float64, {2}, numbers.data()}), ModelFileError, "not finite (inf) at index 1");
  CHECK_THROWS_WITH(write({"a", Dtype::float64, {1}, nullptr}), std::invalid_argument, "its data are null");
  CHECK_THROWS_WITH(write({"", Dtype::float64, {1}, numbers.data()}), std::invalid_argument, "expected a name");
  CHECK_THROWS_WITH(write({"\xff", Dtype::float64, {1}, numbers.data()}), std::invalid_argument, "expected a name");
  CHECK_THROWS_WITH(write({"a", Dtype::float64, {1, 0}, numbers.data()}), std::invalid_argument, "shape [1, 0]");
  CHECK_THROWS_WITH(write({"a", Dtype::float64, {1LL << 40, 1LL << 40}, numbers.data()}), std::invalid_argument,
                    "that can be addressed");
  CHECK_THROWS_WITH(write({"a", Dtype::float64, std::vector<std::int64_t>(33, 1), numbers.data()}),
                    std::invalid_argument, "expected at most 32 axes, got 33");
  const TensorView one{"a", Dtype::float64, {1}, numbers.data()};
  CHECK_THROWS_WITH((write_tensors(path, {one, one}, {}), 0), std::invalid_argument, "'a': named twice");
  CHECK_THROWS_WITH((write_tensors(path, {}, {{"checksum", ""}}), 0), std::invalid_argument, "'checksum' is reserved");
  CHECK_THROWS_WITH((write_tensors(path, {}, {{"key", "\xff"}}), 0), std::invalid_argument, "not UTF-8");
  CHECK_EQ(read_tensors(path).tensors.size(), 2u);  // the old file is still there
  CHECK_THROWS(read_tensors("nowhere/file"), ModelFileError);
  CHECK_THROWS(read_metadata("nowhere/file"), ModelFileError);
}

}  // namespace

int main() {
  there_and_back();
  refusals();
  std::remove(path.c_str());
  return check::result();
}
