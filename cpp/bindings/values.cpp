#include "values.hpp"

#include "arrays.hpp"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <utility>

namespace lstmcore::bindings {
namespace {

template <class Enum>
struct EnumName {
  const char* name;
  Enum value;
};

constexpr EnumName<Pooling> kPoolings[] = {{"last", Pooling::last},         {"mean", Pooling::mean},
                                           {"max", Pooling::max},           {"attention", Pooling::attention},
                                           {"hopfield", Pooling::hopfield}, {"none", Pooling::none}};
constexpr EnumName<Activation> kActivations[] = {{"identity", Activation::identity}, {"softmax", Activation::softmax}};
constexpr EnumName<HeadActivation> kHeadActivations[] = {
    {"selu", HeadActivation::selu}, {"relu", HeadActivation::relu}, {"tanh", HeadActivation::tanh}};
constexpr EnumName<Quantization> kQuantizations[] = {{"none", Quantization::none},
                                                     {"dynamic_int8", Quantization::dynamic_int8}};

template <class Enum, std::size_t Count>
Enum to_enum(py::handle value, const std::string& name, const EnumName<Enum> (&entries)[Count]) {
  const std::string text = to_text(value, name);
  std::string allowed;
  for (const auto& entry : entries) {
    if (text == entry.name) return entry.value;
    allowed += (allowed.empty() ? "'" : ", '") + std::string(entry.name) + "'";
  }
  throw py::value_error(name + ": expected one of " + allowed + ", got '" + text + "'");
}

template <class Enum, std::size_t Count>
const char* enum_name(Enum value, const EnumName<Enum> (&entries)[Count]) {
  for (const auto& entry : entries) {
    if (entry.value == value) return entry.name;
  }
  throw std::logic_error("unnamed enumerator");
}

/// NumPy scalars carry a dtype; its kind tells a bool from a number.
char numpy_kind(py::handle value) {
  if (!py::hasattr(value, "dtype") || !py::hasattr(value, "item")) return '\0';
  const py::object kind = py::getattr(value.attr("dtype"), "kind", py::none());
  return py::isinstance<py::str>(kind) ? kind.cast<std::string>().front() : '\0';
}

py::object to_python_integer(py::handle value, const std::string& name) {
  const bool refused = !PyLong_CheckExact(value.ptr()) &&
                       (PyBool_Check(value.ptr()) || PyFloat_Check(value.ptr()) || numpy_kind(value) == 'b');
  PyObject* integer = refused ? nullptr : PyNumber_Index(value.ptr());
  if (integer == nullptr) {
    PyErr_Clear();
    throw py::type_error(name + ": expected an integer, got " + repr_of(value) + " (" + type_of(value) + ")");
  }
  return py::reinterpret_steal<py::object>(integer);
}

void require_access(const std::string& needed, int mode, py::handle path) {
  if (::access(needed.c_str(), mode) == 0) return;
  PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, path.ptr());
  throw py::error_already_set();
}

/// None and the name of the dtype mean the same.
Precision to_precision(py::handle value, Dtype dtype) {
  if (value.is_none()) return Precision::same_as_dtype;
  const std::string text = to_text(value, "precision");
  if (text == "bfloat16") return Precision::bfloat16;
  if (text == dtype_name(dtype)) return Precision::same_as_dtype;
  throw py::value_error("precision: expected None, 'bfloat16' or the dtype, '" + std::string(dtype_name(dtype)) +
                        "', got '" + text + "'");
}

void refuse_unknown_keys(const py::dict& fields, const std::string& name, const std::vector<std::string>& known) {
  for (const auto& item : fields) require_known(name, to_text(item.first, name + " key"), known);
}

}  // namespace

std::string repr_of(py::handle value) {
  std::string text = py::repr(value).cast<std::string>();
  constexpr std::size_t limit = 80;
  if (text.size() > limit) {
    std::size_t cut = limit;
    while (cut > 0 && (static_cast<unsigned char>(text[cut]) & 0xC0U) == 0x80U) --cut;  // not inside a UTF-8 character
    text = text.substr(0, cut) + "…";
  }
  return text;
}

std::string type_of(py::handle value) {
  const py::handle type = py::type::handle_of(value);
  const auto module = py::getattr(type, "__module__", py::str("builtins")).cast<std::string>();
  const auto name = type.attr("__qualname__").cast<std::string>();
  return module == "builtins" ? name : module + "." + name;
}

std::int64_t to_integer(py::handle value, const std::string& name, std::int64_t low, std::int64_t high) {
  const py::object integer = to_python_integer(value, name);
  int overflow = 0;
  const std::int64_t result = PyLong_AsLongLongAndOverflow(integer.ptr(), &overflow);
  if (overflow != 0 || result < low || result > high) {
    std::string expected;
    if (low == std::numeric_limits<std::int64_t>::min()) {
      expected = "of 64 bits";
    } else if (high == std::numeric_limits<std::int64_t>::max()) {
      expected = "of at least " + std::to_string(low);
    } else {
      expected = "from " + std::to_string(low) + " to " + std::to_string(high);
    }
    throw py::value_error(name + ": expected an integer " + expected + ", got " + repr_of(integer));
  }
  return result;
}

std::uint64_t to_seed(py::handle value, const std::string& name) {
  const py::object integer = to_python_integer(value, name);
  const std::uint64_t result = PyLong_AsUnsignedLongLong(integer.ptr());
  if (PyErr_Occurred() != nullptr) {
    PyErr_Clear();
    throw py::value_error(name + ": expected an integer from 0 to 2**64 - 1, got " + repr_of(integer));
  }
  return result;
}

int to_threads(py::handle value, const std::string& name) {
  if (value.is_none()) return 0;
  return static_cast<int>(to_integer(value, name, 1, std::numeric_limits<int>::max()));
}

double to_number(py::handle value, const std::string& name) {
  const bool refused = PyBool_Check(value.ptr()) || numpy_kind(value) == 'b' || py::isinstance<py::str>(value);
  if (!refused) {
    const double result = PyFloat_AsDouble(value.ptr());
    if (PyErr_Occurred() == nullptr) return result;
    PyErr_Clear();
  }
  throw py::type_error(name + ": expected a number, got " + repr_of(value) + " (" + type_of(value) + ")");
}

bool to_bool(py::handle value, const std::string& name) {
  if (PyBool_Check(value.ptr())) return value.is(py::handle(Py_True));
  if (numpy_kind(value) == 'b' && !py::isinstance<py::array>(value)) return value.attr("item")().cast<bool>();
  throw py::type_error(name + ": expected True or False, got " + repr_of(value) + " (" + type_of(value) + ")");
}

std::string to_text(py::handle value, const std::string& name) {
  if (!py::isinstance<py::str>(value)) {
    throw py::type_error(name + ": expected a str, got " + repr_of(value) + " (" + type_of(value) + ")");
  }
  return value.cast<std::string>();
}

std::string to_path(py::handle value, const std::string& name) {
  PyObject* bytes = nullptr;
  if (PyUnicode_FSConverter(value.ptr(), static_cast<void*>(&bytes)) == 0) {
    py::error_already_set error;
    if (!error.matches(PyExc_TypeError)) throw py::error_already_set(std::move(error));  // e.g. an embedded null byte
    throw py::type_error(name + ": expected a path (str or os.PathLike), got " + type_of(value));
  }
  return py::reinterpret_steal<py::bytes>(bytes).cast<std::string>();
}

py::dict to_dict(py::handle value, const std::string& name) {
  if (!py::isinstance<py::dict>(value)) throw py::type_error(name + ": expected a dict, got " + type_of(value));
  PyObject* copy = PyDict_Copy(value.ptr());
  if (copy == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::dict>(copy);
}

std::string entry_name(const std::string& name, const std::string& key) { return name + "['" + key + "']"; }

void require_known(const std::string& name, const std::string& key, const std::vector<std::string>& known) {
  if (std::find(known.begin(), known.end(), key) != known.end()) return;
  std::string list;
  for (const std::string& each : known) {
    if (!list.empty()) list += ", ";
    list += each;
  }
  throw py::value_error(name + ": unknown key '" + key + "'; known are " + list);
}

py::object threads_object(int n_threads) {
  if (n_threads == 0) return py::none();
  return py::int_(n_threads);
}

py::tuple text_tuple(const std::vector<std::string>& texts) {
  py::tuple result(texts.size());
  for (std::size_t i = 0; i < texts.size(); ++i) result[i] = py::str(texts[i]);
  return result;
}

Options to_options(py::handle value, const std::string& name) {
  Options options;
  for (const auto& item : to_dict(value, name)) {
    const std::string key = to_text(item.first, name + " key");
    const std::string full_name = entry_name(name, key);
    const py::handle option = item.second;
    const char kind = numpy_kind(option);
    if (PyBool_Check(option.ptr()) || kind == 'b') {
      options[key] = to_bool(option, full_name);
    } else if (py::isinstance<py::str>(option)) {
      options[key] = option.cast<std::string>();
    } else if (PyLong_Check(option.ptr()) || kind == 'i' || kind == 'u') {
      options[key] = to_integer(option, full_name);
    } else if (PyFloat_Check(option.ptr()) || kind == 'f') {
      options[key] = to_number(option, full_name);
    } else {
      throw py::type_error(full_name + ": expected a bool, int, float or str, got " + type_of(option));
    }
  }
  return options;
}

py::dict options_object(const Options& options) {
  py::dict result;
  for (const auto& [key, option] : options) {
    result[py::str(key)] = std::visit([](const auto& value) -> py::object { return py::cast(value); }, option);
  }
  return result;
}

Texts to_texts(py::handle value, const std::string& name) {
  Texts texts;
  for (const auto& item : to_dict(value, name)) {
    const std::string key = to_text(item.first, name + " key");
    texts[key] = to_text(item.second, entry_name(name, key));
  }
  return texts;
}

py::dict texts_object(const Texts& texts) {
  py::dict result;
  for (const auto& [key, text] : texts) result[py::str(key)] = text;
  return result;
}

void require_readable(const std::string& file, py::handle path) { require_access(file, R_OK, path); }

void require_writable(const std::string& file, py::handle path) {
  const std::size_t slash = file.find_last_of('/');
  const std::string folder = slash == std::string::npos ? "." : file.substr(0, slash + 1);
  require_access(folder, W_OK, path);
  require_access(folder, X_OK, path);
  if (::access(file.c_str(), F_OK) == 0) require_access(file, W_OK, path);
}

RecurrentConfig to_recurrent_config(const py::dict& fields, const std::string& name) {
  refuse_unknown_keys(fields, name,
                      {"cell", "input_size", "hidden_size", "num_layers", "bidirectional", "reverse", "dropout",
                       "variational_dropout", "recurrent_dropout", "zoneout_hidden", "zoneout_cell",
                       "learn_initial_state", "dtype", "precision", "seed", "n_threads", "cell_options"});
  const auto field = [&](const char* key) -> py::object {
    return fields.contains(key) ? py::object(fields[key]) : py::object();
  };
  const auto required = [&](const char* key) {
    py::object value = field(key);
    if (!value || value.is_none()) throw py::type_error(name + ": missing required argument '" + key + "'");
    return value;
  };
  RecurrentConfig config;
  if (const py::object value = field("cell")) config.cell = to_text(value, "cell");
  config.input_size = to_integer(required("input_size"), "input_size", 1);
  config.hidden_size = to_integer(required("hidden_size"), "hidden_size", 1);
  if (const py::object value = field("num_layers")) config.num_layers = to_integer(value, "num_layers", 1);
  if (const py::object value = field("bidirectional")) config.bidirectional = to_bool(value, "bidirectional");
  if (const py::object value = field("reverse")) config.reverse = to_bool(value, "reverse");
  if (const py::object value = field("dropout")) config.dropout = to_number(value, "dropout");
  const auto number = [&](const char* key, double& to) {
    if (const py::object value = field(key)) to = to_number(value, key);
  };
  number("variational_dropout", config.variational_dropout);
  number("recurrent_dropout", config.recurrent_dropout);
  number("zoneout_hidden", config.zoneout_hidden);
  number("zoneout_cell", config.zoneout_cell);
  if (const py::object value = field("learn_initial_state")) {
    config.learn_initial_state = to_bool(value, "learn_initial_state");
  }
  if (const py::object value = field("dtype")) config.dtype = to_dtype(value, "dtype");
  if (const py::object value = field("precision")) config.precision = to_precision(value, config.dtype);
  if (const py::object value = field("seed")) config.seed = to_seed(value, "seed");
  if (const py::object value = field("n_threads")) config.n_threads = to_threads(value, "n_threads");
  if (const py::object value = field("cell_options")) config.cell_options = to_options(value, "cell_options");
  return config;
}

const char* precision_name(const RecurrentConfig& config) noexcept {
  return config.precision == Precision::bfloat16 ? "bfloat16" : dtype_name(config.dtype);
}

py::dict recurrent_config_object(const RecurrentConfig& config) {
  py::dict result;
  result["cell"] = config.cell;
  result["input_size"] = config.input_size;
  result["hidden_size"] = config.hidden_size;
  result["num_layers"] = config.num_layers;
  result["bidirectional"] = config.bidirectional;
  result["reverse"] = config.reverse;
  result["dropout"] = config.dropout;
  result["variational_dropout"] = config.variational_dropout;
  result["recurrent_dropout"] = config.recurrent_dropout;
  result["zoneout_hidden"] = config.zoneout_hidden;
  result["zoneout_cell"] = config.zoneout_cell;
  result["learn_initial_state"] = config.learn_initial_state;
  result["dtype"] = dtype_name(config.dtype);
  result["precision"] = precision_name(config);
  result["seed"] = config.seed;
  result["n_threads"] = threads_object(config.n_threads);
  result["cell_options"] = options_object(config.cell_options);
  return result;
}

ModelConfig to_model_config(py::handle value) {
  const py::dict fields = to_dict(value, "config");
  refuse_unknown_keys(
      fields, "config",
      {"recurrent", "pooling", "activation", "outputs", "pooling_size", "pooling_patterns", "pooling_beta",
       "pooling_updates", "head_sizes", "head_activation", "head_dropout", "quantization"});
  if (!fields.contains("recurrent")) throw py::value_error("config: missing key 'recurrent'");
  ModelConfig config;
  config.recurrent = to_recurrent_config(to_dict(fields["recurrent"], "config['recurrent']"), "config['recurrent']");
  if (fields.contains("pooling")) config.pooling = to_enum(fields["pooling"], "pooling", kPoolings);
  if (fields.contains("activation")) config.activation = to_enum(fields["activation"], "activation", kActivations);
  if (fields.contains("outputs")) config.outputs = to_integer(fields["outputs"], "outputs", 1);
  if (fields.contains("pooling_size")) config.pooling_size = to_integer(fields["pooling_size"], "pooling_size", 0);
  if (fields.contains("pooling_patterns")) {
    config.pooling_patterns = to_integer(fields["pooling_patterns"], "pooling_patterns", 1);
  }
  if (fields.contains("pooling_beta")) config.pooling_beta = to_number(fields["pooling_beta"], "pooling_beta");
  if (fields.contains("pooling_updates")) {
    config.pooling_updates = to_integer(fields["pooling_updates"], "pooling_updates", 0);
  }
  if (fields.contains("head_sizes")) {
    const py::handle sizes = fields["head_sizes"];
    if (!py::isinstance<py::list>(sizes) && !py::isinstance<py::tuple>(sizes)) {
      throw py::type_error("head_sizes: expected a list or tuple of integers, got " + type_of(sizes));
    }
    // A tuple of its own: the conversion of an element may run Python code that changes a list.
    for (const py::handle size : py::tuple(py::reinterpret_borrow<py::object>(sizes))) {
      const std::string place = "head_sizes[" + std::to_string(config.head_sizes.size()) + "]";
      config.head_sizes.push_back(to_integer(size, place, 1));
    }
  }
  if (fields.contains("head_activation")) {
    config.head_activation = to_enum(fields["head_activation"], "head_activation", kHeadActivations);
  }
  if (fields.contains("head_dropout")) config.head_dropout = to_number(fields["head_dropout"], "head_dropout");
  if (fields.contains("quantization")) {
    config.quantization = to_enum(fields["quantization"], "quantization", kQuantizations);
  }
  return config;
}

py::dict model_config_object(const ModelConfig& config) {
  py::dict result;
  result["recurrent"] = recurrent_config_object(config.recurrent);
  result["pooling"] = enum_name(config.pooling, kPoolings);
  result["activation"] = enum_name(config.activation, kActivations);
  result["outputs"] = config.outputs;
  result["pooling_size"] = config.pooling_size;
  result["pooling_patterns"] = config.pooling_patterns;
  result["pooling_beta"] = config.pooling_beta;
  result["pooling_updates"] = config.pooling_updates;
  py::list head_sizes;
  for (const std::int64_t size : config.head_sizes) head_sizes.append(py::int_(size));
  result["head_sizes"] = head_sizes;
  result["head_activation"] = enum_name(config.head_activation, kHeadActivations);
  result["head_dropout"] = config.head_dropout;
  result["quantization"] = enum_name(config.quantization, kQuantizations);
  return result;
}

}  // namespace lstmcore::bindings
