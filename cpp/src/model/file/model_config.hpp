// The architecture as JSON: the "model" entry of a model file's metadata (docs/model-file.md).
#pragma once

#include <lstmcore/model.hpp>

namespace lstmcore::file {

class Json;

/// bfloat16: products of the recurrent layers in bf16.
enum class FileKind { plain, quantised, bfloat16 };

/// n_threads is left out: it belongs to the machine that runs a model. Throws FileError for numbers that are not
/// finite.
Json config_to_json(const ModelConfig& config);

/// Throws FileError, naming the entry, for anything missing, unknown or of the wrong kind. That the values make a
/// model together (options of the cell, range of dropout) is for Model's constructor to check.
/// kind: that of the file's format version; models other than plain ones have one entry more.
ModelConfig config_from_json(const Json& json, FileKind kind);

}  // namespace lstmcore::file
