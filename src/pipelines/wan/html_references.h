#pragma once

#include <string_view>

namespace dither {

/// HTML's 2125 named character references, separated by white space, each "name;code[,code]" with
/// code points in hexadecimal; a final '?' marks the 106 names that also count without semicolon.
std::string_view html_reference_table();

}  // namespace dither
