#pragma once

#include <map>
#include <string>
#include <string_view>

namespace dither {

/// Parses `{"metadata": {...}, "weight_map": {tensor: file}}` and returns the weight_map. `path` is
/// for messages. Throws kDataLoss on malformed JSON, duplicate keys, an empty map, and values that
/// are not plain file names: a shard lies beside its index, nowhere else.
std::map<std::string, std::string> parse_shard_index(std::string_view text, std::string_view path);

}  // namespace dither
