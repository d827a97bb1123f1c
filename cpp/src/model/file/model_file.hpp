// A whole model in one safetensors file. The format is described in docs/model-file.md.
#pragma once

#include <lstmcore/model.hpp>

#include <functional>
#include <map>
#include <string>

namespace lstmcore::file {

/// Writes atomically: a temporary file in the same folder, flushed to disk, renamed; removed on failure.
/// Throws ModelFileError when the file cannot be written, or could not be read again (weights, preprocessing or outputs
/// that are not finite), and std::invalid_argument for metadata that uses a reserved name or is not UTF-8.
void write_model(const std::string& path, const Model& model, const std::map<std::string, std::string>& metadata);

/// Reads, checks and rebuilds; `metadata` receives the extra entries. The file may be hostile: whatever it contains,
/// the result is a model that reproduces the file's test vector, or a ModelFileError that names the file and what is
/// wrong, and memory stays in proportion to the size of the file.
/// build: makes the model whose weights are then overwritten; a caller that can do without drawing initial weights
/// saves most of the time that a large model takes. Without it, Model's public constructor.
Model read_model(const std::string& path, std::map<std::string, std::string>& metadata,
                 const std::function<Model(const ModelConfig&)>& build = nullptr);

}  // namespace lstmcore::file
