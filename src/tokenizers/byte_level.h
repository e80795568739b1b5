#pragma once

#include <array>
#include <string>

namespace dither {

/// GPT-2's printable stand-ins for the 256 bytes, in UTF-8: bytes 33-126, 161-172 and 174-255 stand
/// for themselves, the other 68 in order are U+0100 and up.
const std::array<std::string, 256>& byte_level_alphabet();

}  // namespace dither
