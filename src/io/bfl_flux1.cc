#include "io/bfl_flux1.h"

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
#include "base/log.h"
#include "io/untrusted_name.h"
#include "quant/nvfp4.h"

namespace dither {
namespace {

constexpr std::string_view kComfyPrefix = "model.diffusion_model.";
/// Other models in Comfy's all-in-one files.
constexpr std::array<std::string_view, 2> kOtherModels = {"vae.", "text_encoders."};
constexpr std::string_view kWeight = ".weight";

/// How the rows of a layer are distributed over diffusers' layers.
enum class Split : std::uint8_t {
  kNone,
  kQkv,         ///< three equal parts
  kQkvMlp,      ///< three of the input's width, then the rest
  kSwapHalves,  ///< one layer: second half, first half
};

/// One layer's name in BFL's code and in diffusers; '#' is a block's index.
struct Rule {
  std::string_view from;
  std::array<std::string_view, 4> to;
  Split split = Split::kNone;
};

constexpr auto kRules = std::to_array<Rule>({
    {"img_in", {"x_embedder"}},
    {"txt_in", {"context_embedder"}},
    {"time_in.in_layer", {"time_text_embed.timestep_embedder.linear_1"}},
    {"time_in.out_layer", {"time_text_embed.timestep_embedder.linear_2"}},
    {"guidance_in.in_layer", {"time_text_embed.guidance_embedder.linear_1"}},
    {"guidance_in.out_layer", {"time_text_embed.guidance_embedder.linear_2"}},
    {"vector_in.in_layer", {"time_text_embed.text_embedder.linear_1"}},
    {"vector_in.out_layer", {"time_text_embed.text_embedder.linear_2"}},
    {"final_layer.adaLN_modulation.1", {"norm_out.linear"}, Split::kSwapHalves},
    {"final_layer.linear", {"proj_out"}},

    {"double_blocks.#.img_mod.lin", {"transformer_blocks.#.norm1.linear"}},
    {"double_blocks.#.img_attn.qkv",
     {"transformer_blocks.#.attn.to_q", "transformer_blocks.#.attn.to_k",
      "transformer_blocks.#.attn.to_v"},
     Split::kQkv},
    {"double_blocks.#.img_attn.norm.query_norm", {"transformer_blocks.#.attn.norm_q"}},
    {"double_blocks.#.img_attn.norm.key_norm", {"transformer_blocks.#.attn.norm_k"}},
    {"double_blocks.#.img_attn.proj", {"transformer_blocks.#.attn.to_out.0"}},
    {"double_blocks.#.img_mlp.0", {"transformer_blocks.#.ff.net.0.proj"}},
    {"double_blocks.#.img_mlp.2", {"transformer_blocks.#.ff.net.2"}},

    {"double_blocks.#.txt_mod.lin", {"transformer_blocks.#.norm1_context.linear"}},
    {"double_blocks.#.txt_attn.qkv",
     {"transformer_blocks.#.attn.add_q_proj", "transformer_blocks.#.attn.add_k_proj",
      "transformer_blocks.#.attn.add_v_proj"},
     Split::kQkv},
    {"double_blocks.#.txt_attn.norm.query_norm", {"transformer_blocks.#.attn.norm_added_q"}},
    {"double_blocks.#.txt_attn.norm.key_norm", {"transformer_blocks.#.attn.norm_added_k"}},
    {"double_blocks.#.txt_attn.proj", {"transformer_blocks.#.attn.to_add_out"}},
    {"double_blocks.#.txt_mlp.0", {"transformer_blocks.#.ff_context.net.0.proj"}},
    {"double_blocks.#.txt_mlp.2", {"transformer_blocks.#.ff_context.net.2"}},

    {"single_blocks.#.modulation.lin", {"single_transformer_blocks.#.norm.linear"}},
    {"single_blocks.#.linear1",
     {"single_transformer_blocks.#.attn.to_q", "single_transformer_blocks.#.attn.to_k",
      "single_transformer_blocks.#.attn.to_v", "single_transformer_blocks.#.proj_mlp"},
     Split::kQkvMlp},
    {"single_blocks.#.norm.query_norm", {"single_transformer_blocks.#.attn.norm_q"}},
    {"single_blocks.#.norm.key_norm", {"single_transformer_blocks.#.attn.norm_k"}},
    {"single_blocks.#.linear2", {"single_transformer_blocks.#.proj_out"}},
});

std::string_view without_prefix(std::string_view name) {
  return name.starts_with(kComfyPrefix) ? name.substr(kComfyPrefix.size()) : name;
}

/// A name that a rule speaks of.
struct Match {
  const Rule* rule = nullptr;
  std::string_view index;  ///< of the block; empty outside of blocks
  std::string_view layer;  ///< as stored, prefix included
  std::string_view leaf;   ///< "weight"; empty when the name is the layer's own
};

std::optional<Match> match(const Rule& rule, std::string_view name) {
  std::string_view rest = without_prefix(name);
  std::string_view tail = rule.from;
  Match found{.rule = &rule, .index = {}, .layer = {}, .leaf = {}};
  if (const auto at = rule.from.find('#'); at != std::string_view::npos) {
    if (!rest.starts_with(rule.from.substr(0, at))) return std::nullopt;
    rest.remove_prefix(at);
    found.index = rest.substr(0, rest.find_first_not_of("0123456789"));
    if (found.index.empty()) return std::nullopt;
    rest.remove_prefix(found.index.size());
    tail.remove_prefix(at + 1);
  }
  if (!rest.starts_with(tail)) return std::nullopt;
  rest.remove_prefix(tail.size());
  if (!rest.empty() && rest.front() != '.') return std::nullopt;
  found.layer = name.substr(0, name.size() - rest.size());
  if (!rest.empty()) found.leaf = rest.substr(1);
  return found;
}

std::optional<Match> match(std::string_view name) {
  for (const Rule& rule : kRules) {
    if (auto found = match(rule, name)) return found;
  }
  return std::nullopt;
}

/// The diffusers layers that a stored layer becomes.
std::vector<std::string> targets(const Match& found) {
  std::vector<std::string> names;
  for (const std::string_view to : found.rule->to) {
    if (to.empty()) continue;
    std::string& name = names.emplace_back(to);
    if (const auto at = name.find('#'); at != std::string::npos) name.replace(at, 1, found.index);
  }
  return names;
}

/// RMSNorm's "scale" is diffusers' "weight".
std::string_view target_leaf(const Match& found) {
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
std::vector<RowRanges> split_rows(Split split, std::int64_t n, std::int64_t k) {
  switch (split) {
    case Split::kQkv:
      if (n % 3 != 0) return {};
      return {{{0, n / 3}}, {{n / 3, 2 * (n / 3)}}, {{2 * (n / 3), n}}};
    case Split::kQkvMlp:
      if (n / 3 < k || n == 3 * k) return {};
      return {{{0, k}}, {{k, 2 * k}}, {{2 * k, 3 * k}}, {{3 * k, n}}};
    case Split::kSwapHalves:
      if (n % 2 != 0) return {};
      return {{{n / 2, n}, {0, n / 2}}};
    case Split::kNone:
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

class BflFlux1Checkpoint final : public Checkpoint {
 public:
  explicit BflFlux1Checkpoint(std::unique_ptr<Checkpoint> stored);

  std::string_view description() const override { return stored_->description(); }
  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  const TensorInfo* find(std::string_view name) const override;
  Tensor read(std::string_view name) const override;
  void release(const Tensor& tensor) const override { stored_->release(tensor); }
  std::vector<FileMetadata> file_metadata() const override { return stored_->file_metadata(); }
  std::string_view stored_name(std::string_view name) const override;

 private:
  void add(const TensorInfo& info);
  void add_parts(const TensorInfo& info, const Match& found);
  void put(TensorInfo info, std::string name, const Origin& origin);
  void reject(const TensorInfo& info, std::string_view why);

  std::unique_ptr<Checkpoint> stored_;
  std::map<std::string, Origin, std::less<>> origins_;
  std::vector<TensorInfo> tensors_;  ///< sorted by name, like origins_
  std::vector<std::string> problems_;
};

BflFlux1Checkpoint::BflFlux1Checkpoint(std::unique_ptr<Checkpoint> stored)
    : stored_(std::move(stored)) {
  for (const TensorInfo& info : stored_->tensors()) add(info);
  if (!problems_.empty()) {
    throw Error(ErrorCode::kDataLoss,
                fmt::format("{}: {}", description(), fmt::join(problems_, "; ")));
  }
  std::ranges::sort(tensors_, {}, &TensorInfo::name);
}

void BflFlux1Checkpoint::add(const TensorInfo& info) {
  const std::optional<Match> found = match(info.name);
  if (found && found->rule->split != Split::kNone && !found->leaf.empty()) {
    add_parts(info, *found);
  } else if (found && !found->leaf.empty()) {
    put(info, fmt::format("{}.{}", targets(*found).front(), target_leaf(*found)), {info.name});
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
void BflFlux1Checkpoint::add_parts(const TensorInfo& info, const Match& found) {
  const TensorInfo* weight = stored_->find(fmt::format("{}{}", found.layer, kWeight));
  if (weight == nullptr || weight->shape.size() != 2 || element_count(weight->shape) == 0) {
    return reject(info, "has no matrix '.weight' beside it");
  }
  const bool packed = weight->dtype == DType::kU8;
  const std::int64_t n = weight->shape[0];
  const std::int64_t k = weight->shape[1] * (packed ? 2 : 1);
  const std::vector<RowRanges> parts = split_rows(found.rule->split, n, k);
  const std::vector<std::string> names = targets(found);
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

void BflFlux1Checkpoint::put(TensorInfo info, std::string name, const Origin& origin) {
  const auto [at, is_new] = origins_.try_emplace(std::move(name), origin);
  if (!is_new) {
    return reject(info,
                  fmt::format("and {} are both {}", quote(at->second.name), quote(at->first)));
  }
  info.name = at->first;
  tensors_.push_back(std::move(info));
}

void BflFlux1Checkpoint::reject(const TensorInfo& info, std::string_view why) {
  problems_.push_back(fmt::format("{} {}", quote(info.name), why));
}

const TensorInfo* BflFlux1Checkpoint::find(std::string_view name) const {
  const auto it = std::ranges::lower_bound(tensors_, name, {}, &TensorInfo::name);
  return it != tensors_.end() && it->name == name ? &*it : nullptr;
}

Tensor BflFlux1Checkpoint::read(std::string_view name) const {
  const auto it = origins_.find(name);
  if (it == origins_.end()) return stored_->read(name);  // which throws
  const Origin& origin = it->second;
  Tensor stored = stored_->read(origin.name);
  if (origin.rows.empty()) return stored;
  return origin.scale_cols > 0 ? take_tiled_rows(stored, origin.rows, origin.scale_cols)
                               : take_rows(stored, origin.rows);
}

std::string_view BflFlux1Checkpoint::stored_name(std::string_view name) const {
  const auto it = origins_.find(name);
  return it != origins_.end() ? std::string_view(it->second.name) : name;
}

}  // namespace

bool has_bfl_flux1_names(const TensorSource& stored) {
  const auto has = [&](std::string_view name) {
    return stored.find(name) != nullptr ||
           stored.find(fmt::format("{}{}", kComfyPrefix, name)) != nullptr;
  };
  return has("double_blocks.0.img_attn.qkv.weight") && has("double_blocks.0.img_mod.lin.weight");
}

std::unique_ptr<Checkpoint> with_diffusers_names(std::unique_ptr<Checkpoint> stored) {
  return std::make_unique<BflFlux1Checkpoint>(std::move(stored));
}

void rename_bfl_flux1_layers(quant::Config& config, const TensorSource& stored) {
  std::map<std::string, quant::Format, std::less<>> layers;
  for (const auto& [name, format] : config.layers) {
    const std::optional<Match> found = match(name);
    if (!found || !found->leaf.empty()) {
      layers.emplace(name, format);
      continue;
    }
    for (std::string& target : targets(*found)) layers.emplace(std::move(target), format);
  }
  config.layers = std::move(layers);

  std::vector<std::string> ignored;
  for (const TensorInfo& info : stored.tensors()) {
    const std::optional<Match> found = match(info.name);
    if (!found || found->leaf != "weight") continue;
    if (quant::find_pattern(config.ignore, found->layer) == nullptr &&
        quant::find_pattern(config.ignore, without_prefix(found->layer)) == nullptr) {
      continue;
    }
    std::ranges::move(targets(*found), std::back_inserter(ignored));
  }
  std::ranges::move(ignored, std::back_inserter(config.ignore));
}

}  // namespace dither
