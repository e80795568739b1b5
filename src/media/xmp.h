#pragma once

#include <string>
#include <string_view>

#include "media/png.h"

namespace dither {

/// An XMP packet (ISO 16684-1) that carries the texts as attributes of one rdf:Description in a
/// namespace of ours. Keywords must be XML names; control characters, which XML cannot hold, become
/// U+FFFD.
std::string to_xmp(const PngText& text);

/// The texts of a packet that to_xmp() wrote. Another program's has none.
PngText parse_xmp(std::string_view packet);

}  // namespace dither
