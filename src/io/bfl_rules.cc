#include "io/bfl_rules.h"

#include <fmt/format.h>

namespace dither {
namespace {

constexpr auto kFlux1Rules = std::to_array<BflRule>({
    {"img_in", {"x_embedder"}},
    {"txt_in", {"context_embedder"}},
    {"time_in.in_layer", {"time_text_embed.timestep_embedder.linear_1"}},
    {"time_in.out_layer", {"time_text_embed.timestep_embedder.linear_2"}},
    {"guidance_in.in_layer", {"time_text_embed.guidance_embedder.linear_1"}},
    {"guidance_in.out_layer", {"time_text_embed.guidance_embedder.linear_2"}},
    {"vector_in.in_layer", {"time_text_embed.text_embedder.linear_1"}},
    {"vector_in.out_layer", {"time_text_embed.text_embedder.linear_2"}},
    {"final_layer.adaLN_modulation.1", {"norm_out.linear"}, BflSplit::kSwapHalves},
    {"final_layer.linear", {"proj_out"}},

    {"double_blocks.#.img_mod.lin", {"transformer_blocks.#.norm1.linear"}},
    {"double_blocks.#.img_attn.qkv",
     {"transformer_blocks.#.attn.to_q", "transformer_blocks.#.attn.to_k",
      "transformer_blocks.#.attn.to_v"},
     BflSplit::kQkv},
    {"double_blocks.#.img_attn.norm.query_norm", {"transformer_blocks.#.attn.norm_q"}},
    {"double_blocks.#.img_attn.norm.key_norm", {"transformer_blocks.#.attn.norm_k"}},
    {"double_blocks.#.img_attn.proj", {"transformer_blocks.#.attn.to_out.0"}},
    {"double_blocks.#.img_mlp.0", {"transformer_blocks.#.ff.net.0.proj"}},
    {"double_blocks.#.img_mlp.2", {"transformer_blocks.#.ff.net.2"}},

    {"double_blocks.#.txt_mod.lin", {"transformer_blocks.#.norm1_context.linear"}},
    {"double_blocks.#.txt_attn.qkv",
     {"transformer_blocks.#.attn.add_q_proj", "transformer_blocks.#.attn.add_k_proj",
      "transformer_blocks.#.attn.add_v_proj"},
     BflSplit::kQkv},
    {"double_blocks.#.txt_attn.norm.query_norm", {"transformer_blocks.#.attn.norm_added_q"}},
    {"double_blocks.#.txt_attn.norm.key_norm", {"transformer_blocks.#.attn.norm_added_k"}},
    {"double_blocks.#.txt_attn.proj", {"transformer_blocks.#.attn.to_add_out"}},
    {"double_blocks.#.txt_mlp.0", {"transformer_blocks.#.ff_context.net.0.proj"}},
    {"double_blocks.#.txt_mlp.2", {"transformer_blocks.#.ff_context.net.2"}},

    {"single_blocks.#.modulation.lin", {"single_transformer_blocks.#.norm.linear"}},
    {"single_blocks.#.linear1",
     {"single_transformer_blocks.#.attn.to_q", "single_transformer_blocks.#.attn.to_k",
      "single_transformer_blocks.#.attn.to_v", "single_transformer_blocks.#.proj_mlp"},
     BflSplit::kQkvMlp},
    {"single_blocks.#.norm.query_norm", {"single_transformer_blocks.#.attn.norm_q"}},
    {"single_blocks.#.norm.key_norm", {"single_transformer_blocks.#.attn.norm_k"}},
    {"single_blocks.#.linear2", {"single_transformer_blocks.#.proj_out"}},
});

constexpr auto kFlux2Rules = std::to_array<BflRule>({
    {"img_in", {"x_embedder"}},
    {"txt_in", {"context_embedder"}},
    {"time_in.in_layer", {"time_guidance_embed.timestep_embedder.linear_1"}},
    {"time_in.out_layer", {"time_guidance_embed.timestep_embedder.linear_2"}},
    {"guidance_in.in_layer", {"time_guidance_embed.guidance_embedder.linear_1"}},
    {"guidance_in.out_layer", {"time_guidance_embed.guidance_embedder.linear_2"}},
    {"double_stream_modulation_img.lin", {"double_stream_modulation_img.linear"}},
    {"double_stream_modulation_txt.lin", {"double_stream_modulation_txt.linear"}},
    {"single_stream_modulation.lin", {"single_stream_modulation.linear"}},
    {"final_layer.adaLN_modulation.1", {"norm_out.linear"}, BflSplit::kSwapHalves},
    {"final_layer.linear", {"proj_out"}},

    {"double_blocks.#.img_attn.qkv",
     {"transformer_blocks.#.attn.to_q", "transformer_blocks.#.attn.to_k",
      "transformer_blocks.#.attn.to_v"},
     BflSplit::kQkv},
    {"double_blocks.#.img_attn.norm.query_norm", {"transformer_blocks.#.attn.norm_q"}},
    {"double_blocks.#.img_attn.norm.key_norm", {"transformer_blocks.#.attn.norm_k"}},
    {"double_blocks.#.img_attn.proj", {"transformer_blocks.#.attn.to_out.0"}},
    {"double_blocks.#.img_mlp.0", {"transformer_blocks.#.ff.linear_in"}},
    {"double_blocks.#.img_mlp.2", {"transformer_blocks.#.ff.linear_out"}},

    {"double_blocks.#.txt_attn.qkv",
     {"transformer_blocks.#.attn.add_q_proj", "transformer_blocks.#.attn.add_k_proj",
      "transformer_blocks.#.attn.add_v_proj"},
     BflSplit::kQkv},
    {"double_blocks.#.txt_attn.norm.query_norm", {"transformer_blocks.#.attn.norm_added_q"}},
    {"double_blocks.#.txt_attn.norm.key_norm", {"transformer_blocks.#.attn.norm_added_k"}},
    {"double_blocks.#.txt_attn.proj", {"transformer_blocks.#.attn.to_add_out"}},
    {"double_blocks.#.txt_mlp.0", {"transformer_blocks.#.ff_context.linear_in"}},
    {"double_blocks.#.txt_mlp.2", {"transformer_blocks.#.ff_context.linear_out"}},

    {"single_blocks.#.linear1", {"single_transformer_blocks.#.attn.to_qkv_mlp_proj"}},
    {"single_blocks.#.norm.query_norm", {"single_transformer_blocks.#.attn.norm_q"}},
    {"single_blocks.#.norm.key_norm", {"single_transformer_blocks.#.attn.norm_k"}},
    {"single_blocks.#.linear2", {"single_transformer_blocks.#.attn.to_out"}},
});

std::optional<BflMatch> match(const BflRule& rule, std::string_view name) {
  std::string_view rest = without_comfy_prefix(name);
  std::string_view tail = rule.from;
  BflMatch found{.rule = &rule, .index = {}, .layer = {}, .leaf = {}};
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

}  // namespace

std::string_view without_comfy_prefix(std::string_view name) {
  return name.starts_with(kComfyPrefix) ? name.substr(kComfyPrefix.size()) : name;
}

std::span<const BflRule> bfl_rules_of(const TensorSource& stored) {
  const auto has = [&](std::string_view name) {
    return stored.find(name) != nullptr ||
           stored.find(fmt::format("{}{}", kComfyPrefix, name)) != nullptr;
  };
  if (!has("double_blocks.0.img_attn.qkv.weight")) return {};
  if (has("double_blocks.0.img_mod.lin.weight")) return kFlux1Rules;
  if (has("double_stream_modulation_img.lin.weight")) return kFlux2Rules;
  return {};
}

std::optional<BflMatch> match_bfl_name(std::span<const BflRule> rules, std::string_view name) {
  for (const BflRule& rule : rules) {
    if (auto found = match(rule, name)) return found;
  }
  return std::nullopt;
}

std::vector<std::string> bfl_targets(const BflMatch& found) {
  std::vector<std::string> names;
  for (const std::string_view to : found.rule->to) {
    if (to.empty()) continue;
    std::string& name = names.emplace_back(to);
    if (const auto at = name.find('#'); at != std::string::npos) name.replace(at, 1, found.index);
  }
  return names;
}

}  // namespace dither
