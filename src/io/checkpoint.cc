#include "io/checkpoint.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/log.h"
#include "io/safetensors.h"
#include "io/shard_index.h"
#include "io/untrusted_name.h"

namespace dither {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kFileSuffix = ".safetensors";
constexpr std::string_view kIndexSuffix = ".safetensors.index.json";
constexpr std::size_t kMaxIndexBytes = std::size_t{64} << 20;

using Shards = std::map<std::string, std::unique_ptr<SafetensorsFile>>;

/// Several safetensors files seen as one checkpoint.
class ShardedCheckpoint final : public Checkpoint {
 public:
  explicit ShardedCheckpoint(const fs::path& index)
      : description_(index.string()),
        weight_map_(parse_shard_index(read_text_file(index, kMaxIndexBytes), description_)) {
    for (const auto& [tensor, file] : weight_map_) {
      auto& shard = shards_[file];
      if (!shard) shard = SafetensorsFile::open(index.parent_path() / file);
    }
    check_agreement();
    for (const auto& [tensor, file] : weight_map_) {
      tensors_.push_back(*shards_.at(file)->find(tensor));
    }
  }

  std::string_view description() const override { return description_; }
  const std::vector<TensorInfo>& tensors() const override { return tensors_; }

  const TensorInfo* find(std::string_view name) const override {
    const auto it = std::ranges::lower_bound(tensors_, name, {}, &TensorInfo::name);
    return it != tensors_.end() && it->name == name ? &*it : nullptr;
  }

  Tensor read(std::string_view name) const override {
    const auto it = weight_map_.find(std::string(name));
    if (it == weight_map_.end()) {
      throw Error(ErrorCode::kNotFound, fmt::format("{}: no tensor {}", description_, quote(name)));
    }
    return shards_.at(it->second)->read(name);
  }

  void release(const Tensor& tensor) const override {
    for (const auto& [file, shard] : shards_) shard->release(tensor);  // others ignore it
  }

  std::vector<FileMetadata> file_metadata() const override {
    std::vector<FileMetadata> result;
    for (const auto& [file, shard] : shards_) {
      result.push_back({std::string(shard->description()), shard->metadata()});
    }
    return result;
  }

 private:
  /// The index lists exactly what the shards hold.
  void check_agreement() const {
    std::vector<std::string> problems;
    for (const auto& [tensor, file] : weight_map_) {
      if (shards_.at(file)->find(tensor) == nullptr) {
        problems.push_back(fmt::format("{} lacks {}", file, quote(tensor)));
      }
    }
    for (const auto& [file, shard] : shards_) {
      for (const TensorInfo& info : shard->tensors()) {
        const auto it = weight_map_.find(info.name);
        if (it == weight_map_.end() || it->second != file) {
          problems.push_back(
              fmt::format("{} holds {}, which the index {}", file, quote(info.name),
                          it == weight_map_.end() ? "does not list" : "places in " + it->second));
        }
      }
    }
    if (problems.empty()) return;
    constexpr std::size_t kMaxShown = 20;
    const std::size_t count = problems.size();
    problems.resize(std::min(count, kMaxShown));
    throw Error(ErrorCode::kDataLoss,
                fmt::format("{}: {} tensors disagree with the shards: {}{}", description_, count,
                            fmt::join(problems, "; "), count > kMaxShown ? "; ..." : ""));
  }

  std::string description_;
  std::map<std::string, std::string> weight_map_;  ///< tensor -> shard
  Shards shards_;
  std::vector<TensorInfo> tensors_;
};

/// "it holds a, b" for the error that found none of the expected files.
std::string safetensors_in(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    const std::string name = entry.path().filename().string();
    if (name.find(kFileSuffix) != std::string::npos) names.push_back(name);
  }
  if (names.empty()) return "it holds no safetensors files";
  std::ranges::sort(names);
  constexpr std::size_t kMaxShown = 4;
  const bool cut = names.size() > kMaxShown;
  names.resize(std::min(names.size(), kMaxShown));
  return fmt::format("it holds {}{}", fmt::join(names, ", "), cut ? ", ..." : "");
}

/// An index beside a single file, as converters write it, names that file and no other.
bool lists_only(const fs::path& index, const std::string& file) {
  const auto map = parse_shard_index(read_text_file(index, kMaxIndexBytes), index.string());
  return std::ranges::all_of(map, [&](const auto& entry) { return entry.second == file; });
}

}  // namespace

std::unique_ptr<Checkpoint> open_checkpoint(const fs::path& file) {
  const std::string name = file.filename().string();
  if (name.ends_with(kIndexSuffix)) return std::make_unique<ShardedCheckpoint>(file);
  if (name.ends_with(kFileSuffix)) return SafetensorsFile::open(file);
  throw Error(ErrorCode::kUnsupported, fmt::format("{}: weights must be a {} or {} file",
                                                   file.string(), kFileSuffix, kIndexSuffix));
}

std::unique_ptr<Checkpoint> open_component(const fs::path& folder, std::string_view stem) {
  std::error_code failed;
  if (!fs::is_directory(folder, failed)) {
    throw Error(ErrorCode::kNotFound, fmt::format("{}: no such folder", folder.string()));
  }
  const fs::path single = folder / fmt::format("{}{}", stem, kFileSuffix);
  const fs::path index = folder / fmt::format("{}{}", stem, kIndexSuffix);
  const bool has_single = fs::exists(single, failed);
  const bool has_index = fs::exists(index, failed);
  if (!has_single && !has_index) {
    throw Error(
        ErrorCode::kNotFound,
        fmt::format("{}: no weights: looked for {} and {}; {}", folder.string(),
                    single.filename().string(), index.filename().string(), safetensors_in(folder)));
  }
  if (has_single && has_index && !lists_only(index, single.filename().string())) {
    log::warn("{}: both {} and {} exist, using the single file", folder.string(),
              single.filename().string(), index.filename().string());
  }
  return open_checkpoint(has_single ? single : index);
}

}  // namespace dither
