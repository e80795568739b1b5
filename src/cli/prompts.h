#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace dither::cli {

/// The lines of a file, "-" for standard input; blank lines are left out, and a final '\r' of each.
/// `option` named the file, for messages. Throws kNotFound, kIo, kInvalidArgument when no line is
/// left.
std::vector<std::string> read_prompts(const std::string& path,
                                      std::string_view option = "--prompt-file");

}  // namespace dither::cli
