#pragma once

#include <string_view>

namespace dither {

/// The project's version, "0.1.0".
std::string_view version();
/// The source's commit, or "N/A" when the build knew none.
std::string_view commit_hash();

}  // namespace dither
