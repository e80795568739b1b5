#pragma once

#include <string_view>

namespace dither {

/// True for well-formed UTF-8 (Unicode 15, table 3-7): no overlong forms, surrogates or values
/// above U+10FFFF.
bool is_utf8(std::string_view text);

}  // namespace dither
