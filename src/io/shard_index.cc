#include "io/shard_index.h"

#include <fmt/format.h>

#include "base/error.h"
#include "io/json_text.h"
#include "io/untrusted_name.h"

namespace dither {
std::map<std::string, std::string> parse_shard_index(std::string_view text, std::string_view path) {
  const nlohmann::json document = parse_json_object(text, path);
  const auto map = document.find("weight_map");
  if (map == document.end() || !map->is_object() || map->empty()) {
    throw Error(ErrorCode::kDataLoss,
                fmt::format("{}: 'weight_map' must be an object that maps tensors to files", path));
  }
  std::map<std::string, std::string> shards;
  for (const auto& [tensor, file] : map->items()) {
    if (!file.is_string() || !is_plain_file_name(file.get_ref<const std::string&>())) {
      throw Error(
          ErrorCode::kDataLoss,
          fmt::format("{}: 'weight_map' maps tensor {} to {}, which is not a plain file name", path,
                      quote(tensor),
                      file.is_string() ? quote(file.get<std::string>()) : file.type_name()));
    }
    shards.emplace(tensor, file.get<std::string>());
  }
  return shards;
}

}  // namespace dither
