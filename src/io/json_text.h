#pragma once

#include <nlohmann/json.hpp>
#include <string_view>

namespace dither {

/// Parses an untrusted JSON object. Stricter than nlohmann's default: duplicate keys, NUL bytes and
/// nesting beyond 64 levels are errors. `path` is for messages. Throws kDataLoss only.
/// The caller bounds the size of `text`; the document takes up to about 16 times that.
nlohmann::json parse_json_object(std::string_view text, std::string_view path);

}  // namespace dither
