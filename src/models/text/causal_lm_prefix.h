#pragma once

#include <array>
#include <string>
#include <string_view>

namespace dither::models {

/// What stands before "embed_tokens.weight" and "layers.": transformers has named the language
/// model inside of Mistral3ForConditionalGeneration in two ways. `has(name)` tells whether the
/// checkpoint has a tensor; "model." when it has none of them.
template <typename Has>
std::string_view causal_lm_prefix(const Has& has) {
  constexpr std::array<std::string_view, 4> kPrefixes = {"language_model.model.",
                                                         "model.language_model.", "model.", ""};
  for (const std::string_view prefix : kPrefixes) {
    if (has(std::string(prefix) + "embed_tokens.weight")) return prefix;
  }
  return "model.";
}

}  // namespace dither::models
