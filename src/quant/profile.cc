#include "quant/profile.h"

#include <algorithm>

namespace dither::quant {
namespace {

// Sources: SGLang's tools/convert_modelopt_fp8_checkpoint.py, as regular expressions there.
constexpr std::string_view kFlux1Layers[] = {
    "transformer_blocks.#.norm1.linear",          "transformer_blocks.#.norm1_context.linear",
    "transformer_blocks.#.ff.net.0.proj",         "transformer_blocks.#.ff.net.2",
    "transformer_blocks.#.ff_context.net.0.proj", "transformer_blocks.#.ff_context.net.2",
    "single_transformer_blocks.#.norm.linear",
};
constexpr std::string_view kFlux2Layers[] = {
    "time_guidance_embed.timestep_embedder.linear_1",
    "time_guidance_embed.timestep_embedder.linear_2",
    "time_guidance_embed.guidance_embedder.linear_1",
    "time_guidance_embed.guidance_embedder.linear_2",
    "double_stream_modulation_img.linear",
    "double_stream_modulation_txt.linear",
    "single_stream_modulation.linear",
    "x_embedder",
    "context_embedder",
    "norm_out.linear",
};
constexpr Profile kProfiles[] = {
    {"flux1", "FluxTransformer2DModel", kFlux1Layers},
    {"flux2", "Flux2Transformer2DModel", kFlux2Layers},
};

bool is_digit(char c) { return c >= '0' && c <= '9'; }

/// '#' takes one or more digits, everything else itself.
bool matches(std::string_view pattern, std::string_view name) {
  std::size_t n = 0;
  for (const char expected : pattern) {
    if (n == name.size()) return false;
    if (expected != '#') {
      if (name[n++] != expected) return false;
    } else {
      if (!is_digit(name[n])) return false;
      while (n < name.size() && is_digit(name[n])) ++n;
    }
  }
  return n == name.size();
}

const Profile* find(std::string_view Profile::* key, std::string_view value) {
  const auto found = std::ranges::find(kProfiles, value, key);
  return found == std::end(kProfiles) ? nullptr : found;
}

}  // namespace

std::span<const Profile> profiles() { return kProfiles; }

const Profile* profile_of_class(std::string_view class_name) {
  return find(&Profile::class_name, class_name);
}

const Profile* find_profile(std::string_view name) { return find(&Profile::name, name); }

bool keeps_16_bit(const Profile& profile, std::string_view name) {
  return std::ranges::any_of(profile.layers,
                             [&](std::string_view pattern) { return matches(pattern, name); });
}

}  // namespace dither::quant
