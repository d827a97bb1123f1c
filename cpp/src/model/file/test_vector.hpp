// A short input and the outputs that the model gave when it was saved, stored in the file and repeated when it is
// loaded: the only check that sees a reader, an engine or a platform that computes something else from the right bytes.
#pragma once

#include <lstmcore/model.hpp>

namespace lstmcore::file {

class Json;

/// {"input": T × I numbers, "output": K numbers}. Throws FileError when the outputs are not finite.
Json make_test_vector(const Model& model);

/// Throws FileError when it is malformed, or when the model's outputs differ by more than rounding on another
/// instruction set explains.
void check_test_vector(const Model& model, const Json& json);

}  // namespace lstmcore::file
