#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace dither {

/// The folder's name of the model that `dither generate "..."` draws with.
inline constexpr const char* kDefaultModelName = "emoji-flux";

/// Where the demo model may be, in the order of search: $DITHER_MODEL (alone, when it is set), then
/// ../share/dither/models from the executable's folder, which holds for an installation and for a
/// build tree alike.
std::vector<std::filesystem::path> default_model_candidates();

/// The first candidate that holds a model_index.json. Throws kNotFound, listing all of them and
/// saying how to name a model.
std::filesystem::path find_default_model();

}  // namespace dither
