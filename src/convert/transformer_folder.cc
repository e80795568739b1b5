#include "convert/transformer_folder.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <system_error>
#include <vector>

#include "base/atomic_file.h"
#include "base/error.h"
#include "io/json_text.h"

namespace dither::convert {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kShardSuffix = ".safetensors";
constexpr std::string_view kIndexSuffix = ".safetensors.index.json";
constexpr std::size_t kMaxConfigBytes = std::size_t{4} << 20;

fs::path resolve(const fs::path& path) {
  std::error_code failed;
  for (const fs::path& folder : {path, path / "transformer"}) {
    if (fs::is_regular_file(folder / "config.json", failed)) {
      fs::path canonical = fs::canonical(folder, failed);
      if (!failed) return canonical;
    }
  }
  throw Error(
      ErrorCode::kNotFound,
      fmt::format("{}: neither config.json nor transformer/config.json is there", path.string()));
}

std::vector<std::string> files_ending(const fs::path& folder, std::string_view suffix) {
  std::vector<std::string> names;
  std::error_code failed;
  for (const auto& entry : fs::directory_iterator(folder, failed)) {
    std::string name = entry.path().filename().string();
    if (name.ends_with(suffix)) names.push_back(std::move(name));
  }
  if (failed) {
    throw Error(ErrorCode::kIo, fmt::format("{}: {}", folder.string(), failed.message()));
  }
  std::ranges::sort(names);
  return names;
}

/// Sets index_name and returns the file to open.
fs::path find_weights(TransformerFolder& folder) {
  const auto indices = files_ending(folder.path, kIndexSuffix);
  for (const std::string_view stem : {kTransformersStem, kDiffusersStem}) {
    const std::string name = fmt::format("{}{}", stem, kIndexSuffix);
    if (!std::ranges::binary_search(indices, name)) continue;
    folder.index_name = name;
    return folder.path / name;
  }
  if (!indices.empty()) {
    folder.index_name = indices.front();
    return folder.path / indices.front();
  }
  const auto shards = files_ending(folder.path, kShardSuffix);
  if (shards.size() != 1) {
    throw Error(ErrorCode::kNotFound,
                fmt::format("{}: holds {} safetensors files and no index ({}{}): which tensors "
                            "belong to the model is unknown",
                            folder.path.string(), shards.size(), kDiffusersStem, kIndexSuffix));
  }
  folder.index_name = fmt::format("{}{}", fs::path(shards[0]).stem().string(), kIndexSuffix);
  return folder.path / shards[0];
}

}  // namespace

TransformerFolder TransformerFolder::open(const fs::path& path) {
  TransformerFolder folder{.path = resolve(path)};
  folder.config = parse_json_object(read_text_file(folder.path / "config.json", kMaxConfigBytes),
                                    folder.config_file());
  folder.weights = open_checkpoint(find_weights(folder));
  return folder;
}

bool is_weight_file(const fs::path& file) {
  const std::string name = file.filename().string();
  return name.ends_with(kShardSuffix) || name.ends_with(kIndexSuffix);
}

}  // namespace dither::convert
