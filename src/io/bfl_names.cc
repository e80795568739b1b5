#include "io/bfl_names.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "io/bfl_rules.h"
#include "io/untrusted_name.h"
#include "quant/nvfp4.h"

namespace dither {
namespace {

/// Other models in Comfy's all-in-one files.
constexpr std::array<std::string_view, 2> kOtherModels = {"vae.", "text_encoders."};
constexpr std::string_view kWeight = ".weight";

/// RMSNorm's "scale" is diffusers' "weight".
std::string_view target_leaf(const BflMatch& found) {
  return found.leaf == "scale" && found.rule->from.ends_with("_norm") ? "weight" : found.leaf;
}

struct RowRange {
  std::int64_t begin = 0;
  std::int64_t end = 0;
};
using RowRanges = std::vector<RowRange>;  ///< one after the other

std::int64_t row_count(const RowRanges& ranges) {
  std::int64_t rows = 0;
  for (const auto& [begin, end] : ranges) rows += end - begin;
  return rows;
}

/// The rows of each part of an [N, K] layer; nothing when it cannot be split so.
std::vector<RowRanges> split_rows(BflSplit split, std::int64_t n, std::int64_t k) {
  switch (split) {
    case BflSplit::kQkv:
      if (n % 3 != 0) return {};
      return {{{0, n / 3}}, {{n / 3, 2 * (n / 3)}}, {{2 * (n / 3), n}}};
    case BflSplit::kQkvMlp:
      if (n / 3 < k || n == 3 * k) return {};
      return {{{0, k}}, {{k, 2 * k}}, {{2 * k, 3 * k}}, {{3 * k, n}}};
    case BflSplit::kSwapHalves:
      if (n % 2 != 0) return {};
      return {{{n / 2, n}, {0, n / 2}}};
    case BflSplit::kNone:
      break;
  }
  return {};
}

/// Where a renamed tensor comes from.
struct Origin {
  std::string name;
  RowRanges rows = {};          ///< empty: all
  std::int64_t scale_cols = 0;  ///< of NVFP4 block scales in tiles; else 0
};

/// The rows one after the other: a view when they are one range, else a host copy.
Tensor take_rows(const Tensor& tensor, const RowRanges& ranges) {
  if (ranges.size() == 1) return tensor.slice(0, ranges[0].begin, ranges[0].end);
  Shape shape = tensor.shape();
  shape[0] = row_count(ranges);
  Tensor copy = Tensor::host(shape, tensor.dtype());
  std::byte* out = copy.raw();
  for (const auto& [begin, end] : ranges) {
    const Tensor part = tensor.slice(0, begin, end);
    std::memcpy(out, part.raw(), part.bytes());
    out += part.bytes();
  }
  return copy;
}

/// Of quant::ScaleLayout::kSwizzled.
Shape tiled_shape(std::int64_t rows, std::int64_t cols) {
  return {(rows + 127) / 128 * 128, (cols + 3) / 4 * 4};
}

/// Block scales of some rows, from tiles to tiles of their own.
Tensor take_tiled_rows(const Tensor& tiles, const RowRanges& ranges, std::int64_t cols) {
  Tensor copy = Tensor::host(tiled_shape(row_count(ranges), cols), tiles.dtype());
  const auto* in = tiles.data<std::uint8_t>();
  auto* out = copy.data<std::uint8_t>();
  std::int64_t row = 0;
  for (const auto& [begin, end] : ranges) {
    for (std::int64_t source = begin; source < end; ++source, ++row) {
      for (std::int64_t col = 0; col < cols; ++col) {
        out[quant::nvfp4_swizzled_index(row, col, cols)] =
            in[quant::nvfp4_swizzled_index(source, col, cols)];
      }
    }
  }
  return copy;
}

class BflCheckpoint final : public Checkpoint {
 public:
  explicit BflCheckpoint(std::unique_ptr<Checkpoint> stored);

  std::string_view description() const override { return stored_->description(); }
  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  const TensorInfo* find(std::string_view name) const override;
  Tensor read(std::string_view name) const override;
  void release(const Tensor& tensor) const override { stored_->release(tensor); }
  std::vector<FileMetadata> file_metadata() const override { return stored_->file_metadata(); }
  std::string_view stored_name(std::string_view name) const override;

 private:
  void add(const TensorInfo& info);
  void add_parts(const TensorInfo& info, const BflMatch& found);
  void put(TensorInfo info, std::string name, const Origin& origin);
  void reject(const TensorInfo& info, std::string_view why);

  std::unique_ptr<Checkpoint> stored_;
  std::span<const BflRule> rules_;
  std::map<std::string, Origin, std::less<>> origins_;
  std::vector<TensorInfo> tensors_;  ///< sorted by name, like origins_
  std::vector<std::string> problems_;
};

BflCheckpoint::BflCheckpoint(std::unique_ptr<Checkpoint> stored)
    : stored_(std::move(stored)), rules_(bfl_rules_of(*stored_)) {
  for (const TensorInfo& info : stored_->tensors()) add(info);
  if (!problems_.empty()) {
    throw Error(ErrorCode::kDataLoss,
                fmt::format("{}: {}", description(), fmt::join(problems_, "; ")));
  }
  std::ranges::sort(tensors_, {}, &TensorInfo::name);
}

void BflCheckpoint::add(const TensorInfo& info) {
  const std::optional<BflMatch> found = match_bfl_name(rules_, info.name);
  if (found && found->rule->split != BflSplit::kNone && !found->leaf.empty()) {
    add_parts(info, *found);
  } else if (found && !found->leaf.empty()) {
    put(info, fmt::format("{}.{}", bfl_targets(*found).front(), target_leaf(*found)), {info.name});
  } else if (info.name == fmt::format("{}scaled_fp8", kComfyPrefix)) {
    put(info, "scaled_fp8", {info.name});
  } else if (std::ranges::none_of(kOtherModels, [&](std::string_view model) {
               return info.name.starts_with(model);
             })) {
    put(info, info.name, {info.name});
  }
}

/// Weight, bias and block scales are divided by rows; one-element scales and Comfy's marker count
/// for every part.
void BflCheckpoint::add_parts(const TensorInfo& info, const BflMatch& found) {
  const TensorInfo* weight = stored_->find(fmt::format("{}{}", found.layer, kWeight));
  if (weight == nullptr || weight->shape.size() != 2 || element_count(weight->shape) == 0) {
    return reject(info, "has no matrix '.weight' beside it");
  }
  const bool packed = weight->dtype == DType::kU8;
  const std::int64_t n = weight->shape[0];
  const std::int64_t k = weight->shape[1] * (packed ? 2 : 1);
  const std::vector<RowRanges> parts = split_rows(found.rule->split, n, k);
  const std::vector<std::string> names = bfl_targets(found);
  if (parts.empty()) {
    return reject(info, fmt::format("cannot be split: its layer is {}", to_string(Shape{n, k})));
  }
  const bool by_rows = found.leaf == "weight" || found.leaf == "bias";
  const bool tiled = packed && found.leaf == "weight_scale" && info.dtype == DType::kF8E4M3 &&
                     k >= quant::kNvfp4BlockSize;
  const std::int64_t scale_cols = tiled ? k / quant::kNvfp4BlockSize : 0;
  if (by_rows && (info.shape.empty() || info.shape[0] != n)) {
    return reject(info, fmt::format("is {}, its layer has {} rows", to_string(info.shape), n));
  }
  if (tiled && element_count(info.shape) != element_count(tiled_shape(n, scale_cols))) {
    return reject(
        info, fmt::format("is {}, but block scales of {} are {} in tiles", to_string(info.shape),
                          to_string(Shape{n, k}), to_string(tiled_shape(n, scale_cols))));
  }
  for (std::size_t i = 0; i < parts.size(); ++i) {
    TensorInfo part = info;
    if (by_rows) part.shape[0] = row_count(parts[i]);
    if (tiled) part.shape = tiled_shape(row_count(parts[i]), scale_cols);
    put(std::move(part), fmt::format("{}.{}", names[i], found.leaf),
        {.name = info.name,
         .rows = by_rows || tiled ? parts[i] : RowRanges{},
         .scale_cols = scale_cols});
  }
}

void BflCheckpoint::put(TensorInfo info, std::string name, const Origin& origin) {
  const auto [at, is_new] = origins_.try_emplace(std::move(name), origin);
  if (!is_new) {
    return reject(info,
                  fmt::format("and {} are both {}", quote(at->second.name), quote(at->first)));
  }
  info.name = at->first;
  tensors_.push_back(std::move(info));
}

void BflCheckpoint::reject(const TensorInfo& info, std::string_view why) {
  problems_.push_back(fmt::format("{} {}", quote(info.name), why));
}

const TensorInfo* BflCheckpoint::find(std::string_view name) const {
  const auto it = std::ranges::lower_bound(tensors_, name, {}, &TensorInfo::name);
  return it != tensors_.end() && it->name == name ? &*it : nullptr;
}

Tensor BflCheckpoint::read(std::string_view name) const {
  const auto it = origins_.find(name);
  if (it == origins_.end()) return stored_->read(name);  // which throws
  const Origin& origin = it->second;
  Tensor stored = stored_->read(origin.name);
  if (origin.rows.empty()) return stored;
  return origin.scale_cols > 0 ? take_tiled_rows(stored, origin.rows, origin.scale_cols)
                               : take_rows(stored, origin.rows);
}

std::string_view BflCheckpoint::stored_name(std::string_view name) const {
  const auto it = origins_.find(name);
  return it != origins_.end() ? std::string_view(it->second.name) : name;
}

}  // namespace

bool has_bfl_names(const TensorSource& stored) { return !bfl_rules_of(stored).empty(); }

std::unique_ptr<Checkpoint> with_diffusers_names(std::unique_ptr<Checkpoint> stored) {
  return std::make_unique<BflCheckpoint>(std::move(stored));
}

void rename_bfl_layers(quant::Config& config, const TensorSource& stored) {
  const std::span<const BflRule> rules = bfl_rules_of(stored);
  std::map<std::string, quant::Format, std::less<>> layers;
  for (const auto& [name, format] : config.layers) {
    const std::optional<BflMatch> found = match_bfl_name(rules, name);
    if (!found || !found->leaf.empty()) {
      layers.emplace(name, format);
      continue;
    }
    for (std::string& target : bfl_targets(*found)) layers.emplace(std::move(target), format);
  }
  config.layers = std::move(layers);

  std::vector<std::string> ignored;
  for (const TensorInfo& info : stored.tensors()) {
    const std::optional<BflMatch> found = match_bfl_name(rules, info.name);
    if (!found || found->leaf != "weight") continue;
    if (quant::find_pattern(config.ignore, found->layer) == nullptr &&
        quant::find_pattern(config.ignore, without_comfy_prefix(found->layer)) == nullptr) {
      continue;
    }
    std::ranges::move(bfl_targets(*found), std::back_inserter(ignored));
  }
  std::ranges::move(ignored, std::back_inserter(config.ignore));
}

}  // namespace dither
