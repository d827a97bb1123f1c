// The model file: what is written is what is read back, and writing is all or nothing.
#include "model/file/model_file.hpp"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <csignal>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "check.hpp"
#include "model_file_tools.hpp"

using lstmcore::Activation;
using lstmcore::Dtype;
using lstmcore::Model;
using lstmcore::ModelConfig;
using lstmcore::ModelFileError;
using lstmcore::Pooling;
using lstmcore::file::Json;
using lstmcore::file::read_model;
using lstmcore::file::write_model;
using tools::load;
using tools::load_config;
using tools::Parts;
using tools::TemporaryFolder;
using tools::with_folder;

namespace {

using Metadata = std::map<std::string, std::string>;

template <class Scalar>
std::vector<Scalar> predict(const Model& model) {
  tools::Random random(11);
  std::vector<Scalar> x;
  x.reserve(static_cast<std::size_t>(9 * model.config().recurrent.input_size));
  for (std::int64_t i = 0; i < 9 * model.config().recurrent.input_size; ++i)
    x.push_back(static_cast<Scalar>(random.next()));
  const std::int64_t lengths[] = {2, 7};
  const void* data[] = {x.data(), x.data() + 2 * model.config().recurrent.input_size};
  std::vector<Scalar> out(static_cast<std::size_t>(2 * model.config().outputs));
  model.predict({data, lengths, 2, model.config().recurrent.input_size}, out.data(), 1);
  return out;
}

std::size_t parameter_bytes(const Model& model) {
  return static_cast<std::size_t>(model.parameter_count()) * lstmcore::size_of(model.config().recurrent.dtype);
}

void check_same(const Model& a, const Model& b) {
  CHECK_EQ(a.parameter_count(), b.parameter_count());
  CHECK(std::memcmp(a.parameters(), b.parameters(), parameter_bytes(a)) == 0);
  CHECK(a.input_mean() == b.input_mean());
  CHECK(a.input_scale() == b.input_scale());
  CHECK(a.output_mean() == b.output_mean());
  CHECK(a.output_scale() == b.output_scale());
  const auto& left = a.config();
  const auto& right = b.config();
  CHECK_EQ(left.recurrent.cell, right.recurrent.cell);
  CHECK_EQ(left.recurrent.input_size, right.recurrent.input_size);
  CHECK_EQ(left.recurrent.hidden_size, right.recurrent.hidden_size);
  CHECK_EQ(left.recurrent.num_layers, right.recurrent.num_layers);
  CHECK_EQ(left.recurrent.bidirectional, right.recurrent.bidirectional);
  CHECK_EQ(left.recurrent.reverse, right.recurrent.reverse);
  CHECK_EQ(left.recurrent.dropout, right.recurrent.dropout);
  CHECK(left.recurrent.dtype == right.recurrent.dtype);
  CHECK_EQ(left.recurrent.seed, right.recurrent.seed);
  CHECK(left.recurrent.cell_options == right.recurrent.cell_options);
  CHECK(left.pooling == right.pooling);
  CHECK_EQ(left.pooling_size, right.pooling_size);
  CHECK_EQ(left.pooling_patterns, right.pooling_patterns);
  CHECK_EQ(left.pooling_beta, right.pooling_beta);
  CHECK_EQ(left.pooling_updates, right.pooling_updates);
  CHECK(left.head_sizes == right.head_sizes);
  CHECK(left.head_activation == right.head_activation);
  CHECK_EQ(left.head_dropout, right.head_dropout);
  CHECK(left.activation == right.activation);
  CHECK_EQ(left.outputs, right.outputs);
  if (left.recurrent.dtype == Dtype::float32) {
    CHECK(predict<float>(a) == predict<float>(b));
  } else {
    CHECK(predict<double>(a) == predict<double>(b));
  }
}

void test_round_trip(const TemporaryFolder& folder) {
  const std::string path = folder / "model.safetensors";
  int count = 0;
  for (const Dtype dtype : {Dtype::float32, Dtype::float64}) {
    for (const bool bidirectional : {false, true}) {
      for (const Pooling pooling :
           {Pooling::last, Pooling::mean, Pooling::max, Pooling::attention, Pooling::hopfield}) {
        ModelConfig config;
        config.recurrent.cell = pooling == Pooling::mean ? "elman" : "lstm";
        if (pooling == Pooling::mean) config.recurrent.cell_options["nonlinearity"] = std::string("relu");
        config.recurrent.input_size = 3;
        config.recurrent.hidden_size = 5;
        config.recurrent.num_layers = 2;
        config.recurrent.bidirectional = bidirectional;
        config.recurrent.dropout = 0.1;
        config.recurrent.dtype = dtype;
        config.recurrent.seed = std::numeric_limits<std::uint64_t>::max() - 5;
        config.pooling = pooling;
        if (pooling == Pooling::attention) config.pooling_size = 7;
        if (pooling == Pooling::hopfield) {
          config.pooling_patterns = 3;
          config.pooling_beta = 1.0 / 3.0;
          config.pooling_updates = 2;
          config.head_sizes = {6, 2};
          config.head_activation = lstmcore::HeadActivation::tanh;
          config.head_dropout = 0.1;
        }
        config.activation = bidirectional ? Activation::softmax : Activation::identity;
        config.outputs = 4;
        const Model model = tools::make_model(config);
        const Metadata written = {{"classes", "[\"a\",\"ß\"]"},
                                  {"empty", ""},
                                  {"", "no name"},
                                  {"odd", std::string("\"\\\n\0\x7f😀", 9)},
                                  {"number " + std::to_string(count), "1"}};
        write_model(path, model, written);
        Metadata found = {{"left", "over"}};
        const Model back = read_model(path, found);
        check_same(model, back);
        CHECK(found == written);
        CHECK_EQ(back.config().recurrent.n_threads, 0);
        ++count;
      }
    }
  }
  CHECK_EQ(count, 20);
  CHECK_EQ(folder.list().size(), 1U);  // nothing temporary stays
  unlink(path.c_str());
}

void test_layout(const TemporaryFolder& folder) {
  const std::string path = folder / "layout";
  const Model model = tools::make_model(tools::small_config());
  write_model(path, model, {{"classes", "[1]"}});
  const std::string bytes = tools::read_bytes(path);
  const Parts parts = tools::split(bytes);
  CHECK_EQ(parts.header.size() % 8, 0U);
  CHECK_EQ(parts.header[0], '{');
  CHECK_EQ(parts.data.size(), parameter_bytes(model) + sizeof(double) * (2 + 2 + 2 + 2));
  const Json root = Json::parse(parts.header);
  CHECK_EQ(root.as_object()->size(), 1 + model.tensors().size() + 4);
  const Json& metadata = *root.find("__metadata__");
  CHECK_EQ(*metadata.find("format")->as_string(), "lstmcore");
  CHECK_EQ(*metadata.find("format_version")->as_string(), "1");
  CHECK(!metadata.find("lstmcore_version")->as_string()->empty());
  CHECK_EQ(*metadata.find("classes")->as_string(), "[1]");
  CHECK_EQ(
      *metadata.find("model")->as_string(),
      R"({"recurrent":{"cell":"lstm","input_size":2,"hidden_size":3,"num_layers":1,"bidirectional":false,"reverse":false,)"
      R"("dropout":0.0,"variational_dropout":0.0,"recurrent_dropout":0.0,"zoneout_hidden":0.0,"zoneout_cell":0.0,)"
      R"("learn_initial_state":false,"dtype":"float32","seed":7,"cell_options":{}},"pooling":"last",)"
      R"("pooling_size":0,"pooling_patterns":1,"pooling_beta":0.0,"pooling_updates":1,"head_sizes":[],)"
      R"("head_activation":"selu","head_dropout":0.0,"activation":"identity","outputs":2})");
  const std::string checksum = tools::expected_checksum(parts).value_or("none");
  CHECK_EQ(*metadata.find("checksum")->as_string(), checksum);
  const Json vector = Json::parse(*metadata.find("test_vector")->as_string());
  CHECK_EQ(vector.find("input")->as_array()->size(), 5U);
  CHECK_EQ(vector.find("output")->as_array()->size(), 2U);
  for (const Json& step : *vector.find("input")->as_array()) {
    CHECK_EQ(step.as_array()->size(), 2U);
    for (std::size_t i = 0; i < 2; ++i) {
      const double value = (*step.as_array())[i].as_double().value_or(1e9);
      CHECK(std::abs(value - model.input_mean()[i]) * model.input_scale()[i] <= 2.0 + 1e-5);
    }
  }
  for (const lstmcore::TensorInfo& tensor : model.tensors()) {
    const Json& entry = *root.find(tensor.name);
    CHECK_EQ(*entry.find("dtype")->as_string(), "F32");
    const std::size_t begin = tools::extent_of(entry).begin;
    CHECK(std::memcmp(parts.data.data() + begin, static_cast<const float*>(model.parameters()) + tensor.offset,
                      static_cast<std::size_t>(tensor.count()) * 4) == 0);
  }
  write_model(folder / "again", model, {{"classes", "[1]"}});
  CHECK(tools::read_bytes(folder / "again") == bytes);  // the same model gives the same bytes
}

/// Any layout that the container allows is read: here the tensors in reverse order.
void test_other_layout(const TemporaryFolder& folder) {
  const Model model = tools::make_model(tools::small_config());
  write_model(folder / "model", model, {});
  const Parts parts = tools::split(tools::read_bytes(folder / "model"));
  const Json root = Json::parse(parts.header);
  Json::Object object;
  Parts reversed;
  for (auto member = root.as_object()->rbegin(); member != root.as_object()->rend(); ++member) {
    if (member->name == "__metadata__") {
      object.push_back(*member);
      continue;
    }
    const auto [begin, end] = tools::extent_of(member->value);
    const std::uint64_t at = reversed.data.size();
    reversed.data += parts.data.substr(begin, end - begin);
    object.push_back({member->name, Json::Object{{"shape", *member->value.find("shape")},
                                                 {"data_offsets", Json::Array{Json(at), Json(at + end - begin)}},
                                                 {"dtype", *member->value.find("dtype")}}});
  }
  reversed.header = "{\n " + Json(std::move(object)).dump().substr(1);
  tools::write_bytes(folder / "reversed", tools::join(reversed));
  check_same(model, load(folder / "reversed"));
}

/// Numbers such as trained models have, at the ends of their range.
void test_extreme_models(const TemporaryFolder& folder) {
  const std::string path = folder / "extreme";
  for (const Dtype dtype : {Dtype::float32, Dtype::float64}) {
    ModelConfig config = tools::small_config();
    config.recurrent.dtype = dtype;
    Model model(config);
    // A target in millions and one in tiny units; features far from zero and of tiny spread.
    model.set_preprocessing({1e6, 0.0}, {1e-3, 1e12}, {2e9, -1e-9}, {1e-7, 1e9});
    write_model(path, model, {});
    check_same(model, load(path));
    model.set_preprocessing({1e300, -1e300}, {1e-300, 1e-310}, {0.0, 0.0}, {1.0, 1.0});
    if (dtype == Dtype::float64) {
      write_model(path, model, {});
      check_same(model, load(path));
    }
  }
}

void test_writing_refuses(const TemporaryFolder& folder) {
  const std::string path = folder / "refused";
  Model model = tools::make_model(tools::small_config());
  for (const char* name : {"format", "format_version", "lstmcore_version", "model", "test_vector", "checksum"}) {
    CHECK_THROWS_WITH(write_model(path, model, {{name, "1"}}), std::invalid_argument,
                      "the name '" + std::string(name) + "' is reserved");
  }
  CHECK_THROWS_WITH(write_model(path, model, {{"a", "\xff"}}), std::invalid_argument, "'a' is not UTF-8");
  CHECK_THROWS_WITH(write_model(path, model, {{"\xff", "a"}}), std::invalid_argument, "'\\xff' is not UTF-8");
  CHECK_THROWS_WITH(write_model(path, model, {{"long", std::string(100'000'000, 'x')}}), ModelFileError,
                    "beyond the limit of 100000000");
  auto* weights = static_cast<float*>(model.parameters());
  weights[model.tensors()[1].offset + 4] = std::numeric_limits<float>::quiet_NaN();
  CHECK_THROWS_WITH(write_model(path, model, {}), ModelFileError,
                    "tensor 'R_l0' holds a value that is not finite (nan) at index 4");
  CHECK(access(path.c_str(), F_OK) != 0);
}

void test_paths(const TemporaryFolder& folder) {
  const Model model = tools::make_model(tools::small_config());
  CHECK_THROWS_WITH(load(folder / "missing"), ModelFileError, "No such file or directory");
  CHECK_THROWS_WITH(load(folder.path()), ModelFileError, "it is a directory");
  CHECK_THROWS_WITH(load("/dev/zero"), ModelFileError, "it is a device");
  CHECK_THROWS_WITH(load(""), ModelFileError, "No such file or directory");
  CHECK_THROWS_WITH(load(std::string("a\0b", 3)), ModelFileError, "zero byte");
  CHECK_THROWS_WITH(load(folder / "bad\xff\nname"), ModelFileError, "bad\\xff\\x0aname");
  CHECK(mkfifo((folder / "pipe").c_str(), 0600) == 0);
  CHECK_THROWS_WITH(load(folder / "pipe"), ModelFileError, "it is a pipe");  // and does not wait for a writer
  CHECK_THROWS_WITH(write_model(folder / "pipe", model, {}), ModelFileError, "it is a pipe");
  CHECK_THROWS_WITH(write_model(folder.path(), model, {}), ModelFileError, "it is a directory");
  CHECK_THROWS_WITH(write_model(folder / "missing/model", model, {}), ModelFileError, "No such file or directory");
  CHECK_THROWS_WITH(write_model(folder / "missing/", model, {}), ModelFileError, "names a folder");
  CHECK_THROWS_WITH(write_model("", model, {}), ModelFileError, "the path is empty");
  CHECK_THROWS_WITH(write_model(std::string("a\0b", 3), model, {}), ModelFileError, "zero byte");
  unlink((folder / "pipe").c_str());

  // A link is followed, both ways; the file keeps its permissions; a name of the greatest length is possible.
  const std::string target = folder / std::string(255, 'n');
  const std::string link = folder / "link";
  write_model(target, model, {});
  CHECK(chmod(target.c_str(), 0640) == 0);
  CHECK(symlink(target.c_str(), link.c_str()) == 0);
  write_model(link, model, {{"second", "1"}});
  struct stat status{};
  CHECK(lstat(link.c_str(), &status) == 0 && S_ISLNK(status.st_mode));
  CHECK(stat(target.c_str(), &status) == 0 && (status.st_mode & 0777) == 0640);
  Metadata metadata;
  check_same(model, read_model(link, metadata));
  CHECK_EQ(metadata.count("second"), 1U);
  CHECK(unlink(target.c_str()) == 0);
  CHECK_THROWS_WITH(write_model(link, model, {}), ModelFileError, "cannot follow the symbolic link");
  unlink(link.c_str());

  if (geteuid() != 0) {  // root may write anywhere
    write_model(folder / "old", model, {});
    CHECK(chmod((folder / "old").c_str(), 0400) == 0);
    CHECK_THROWS_WITH(write_model(folder / "old", model, {}), ModelFileError, "cannot be replaced: Permission denied");
    CHECK(chmod((folder / "old").c_str(), 0000) == 0);
    CHECK_THROWS_WITH(load(folder / "old"), ModelFileError, "Permission denied");
    CHECK(chmod(folder.path().c_str(), 0500) == 0);
    CHECK_THROWS_WITH(write_model(folder / "new", model, {}), ModelFileError, "Permission denied");
    CHECK(chmod(folder.path().c_str(), 0700) == 0);
  }
}

/// A full disk, played by a limit on the size of files: the old file stays, and nothing else does.
void test_failed_writing_leaves_the_old_file(const TemporaryFolder& folder) {
  const std::string path = folder / "kept";
  const Model model = tools::make_model(tools::small_config());
  write_model(path, model, {});
  const std::string before = tools::read_bytes(path);
  const std::size_t files = folder.list().size();
  rlimit limit{};
  CHECK(getrlimit(RLIMIT_FSIZE, &limit) == 0);
  const rlimit old = limit;
  std::signal(SIGXFSZ, SIG_IGN);
  for (const rlim_t size : {rlim_t{0}, rlim_t{100}, static_cast<rlim_t>(before.size() - 1)}) {
    limit.rlim_cur = size;
    CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    bool failed = false;
    try {
      write_model(path, model, {});
    } catch (const ModelFileError& error) {
      failed = std::string(error.what()).find("writing failed: File too large") != std::string::npos;
    }
    CHECK(setrlimit(RLIMIT_FSIZE, &old) == 0);
    CHECK(failed);
    CHECK(tools::read_bytes(path) == before);
    CHECK_EQ(folder.list().size(), files);
  }
  std::signal(SIGXFSZ, SIG_DFL);
}

/// Readers see the old model or the new one, whole, while writers replace it.
void test_reading_while_writing(const TemporaryFolder& folder) {
  const std::string path = folder / "shared";
  ModelConfig larger = tools::small_config();
  larger.recurrent.hidden_size = 17;
  const Model models[] = {tools::make_model(tools::small_config()), tools::make_model(larger)};
  write_model(path, models[0], {});
  const std::size_t files = folder.list().size();
  const auto writer = [&](std::size_t first) {
    for (std::size_t i = 0; i < 20; ++i) write_model(path, models[(first + i) % 2], {});
  };
  std::thread one(writer, 0);
  std::thread two(writer, 1);
  for (int i = 0; i < 200; ++i) {
    const std::int64_t size = load_config(path).recurrent.hidden_size;
    CHECK(size == 3 || size == 17);
  }
  one.join();
  two.join();
  CHECK_EQ(folder.list().size(), files);
}

}  // namespace

int main() {
  with_folder(test_round_trip);
  with_folder(test_layout);
  with_folder(test_other_layout);
  with_folder(test_extreme_models);
  with_folder(test_writing_refuses);
  with_folder(test_paths);
  with_folder(test_failed_writing_leaves_the_old_file);
  with_folder(test_reading_while_writing);
  return check::result();
}
