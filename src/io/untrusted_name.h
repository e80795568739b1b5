#pragma once

#include <string>
#include <string_view>

namespace dither {

/// 'text' for an error message: control characters escaped, cut after about 100 bytes, so that a
/// hostile name can neither break the line nor fill the terminal.
std::string quote(std::string_view text);

/// True when `name` stays in the folder it is appended to: not empty, "." or "..", and without a
/// slash, backslash or NUL.
bool is_plain_file_name(std::string_view name);

}  // namespace dither
