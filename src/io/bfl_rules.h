#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/tensor_source.h"

/// How Black Forest Labs' own code and diffusers name the layers of FLUX transformers.
namespace dither {

/// What Comfy puts before the names.
inline constexpr std::string_view kComfyPrefix = "model.diffusion_model.";

/// How the rows of a layer are distributed over diffusers' layers.
enum class BflSplit : std::uint8_t {
  kNone,
  kQkv,         ///< three equal parts
  kQkvMlp,      ///< three of the input's width, then the rest
  kSwapHalves,  ///< one layer: second half, first half
};

/// One layer's name in BFL's code and in diffusers; '#' is a block's index.
struct BflRule {
  std::string_view from;
  std::array<std::string_view, 4> to;
  BflSplit split = BflSplit::kNone;
};

/// The rules of the family whose names these weights have: FLUX.1's modulation lies in its blocks,
/// FLUX.2's beside them. Nothing for other names.
/// Sources: BFL's flux/model.py and flux2/model.py, diffusers' FluxTransformer2DModel and
/// Flux2Transformer2DModel (loaders/single_file_utils.py).
std::span<const BflRule> bfl_rules_of(const TensorSource& stored);

/// A name that a rule speaks of.
struct BflMatch {
  const BflRule* rule = nullptr;
  std::string_view index;  ///< of the block; empty outside of blocks
  std::string_view layer;  ///< as stored, prefix included
  std::string_view leaf;   ///< "weight"; empty when the name is the layer's own
};

std::optional<BflMatch> match_bfl_name(std::span<const BflRule> rules, std::string_view name);

/// The diffusers layers that a stored layer becomes.
std::vector<std::string> bfl_targets(const BflMatch& found);

/// A name without Comfy's prefix.
std::string_view without_comfy_prefix(std::string_view name);

}  // namespace dither
