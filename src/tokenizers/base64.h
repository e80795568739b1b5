#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace dither {

/// RFC 4648 base64 with padding; nothing when the text is not that.
std::optional<std::string> decode_base64(std::string_view text);

}  // namespace dither
