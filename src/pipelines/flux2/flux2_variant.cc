#include "pipelines/flux2/flux2_variant.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "io/untrusted_name.h"

namespace dither {
namespace {

/// SYSTEM_MESSAGE of Black Forest Labs' flux2 (src/flux2/system_messages.py) and of diffusers
/// (pipelines/flux2/system_messages.py): what the model was trained with, line break included.
constexpr std::string_view kSystemMessage =
    "You are an AI that reasons about image descriptions. You give structured responses focusing "
    "on object relationships, object\nattribution and actions without speculation.";

ChatText chat_of(std::string_view before, std::string_view prompt, std::string_view after) {
  return {.text = fmt::format("{}{}{}", before, prompt, after),
          .prompt_begin = before.size(),
          .prompt_end = before.size() + prompt.size()};
}

constexpr Flux2Variant kKlein = {
    .pipeline = "Flux2KleinPipeline",
    .text_encoder = "Qwen3ForCausalLM",
    .encoder_name = "Qwen3",
    .is_mistral = false,
    .output_layers = {9, 18, 27},
    .padding_side = PaddingSide::kRight,
    .chat = qwen3_chat,
};

constexpr Flux2Variant klein_kv() {
  Flux2Variant variant = kKlein;
  variant.pipeline = "Flux2KleinKVPipeline";
  variant.references_once = true;
  variant.is_distilled = true;
  return variant;
}

constexpr Flux2Variant kVariants[] = {
    {.pipeline = "Flux2Pipeline",
     .text_encoder = "Mistral3ForConditionalGeneration",
     .encoder_name = "Mistral",
     .is_mistral = true,
     .output_layers = {10, 20, 30},
     .padding_side = PaddingSide::kLeft,
     .chat = mistral_chat},
    kKlein,
    klein_kv(),
};

}  // namespace

std::string_view ChatText::cut_off(std::size_t kept) const {
  const std::string_view all = text;
  if (kept >= prompt_end) return all.substr(std::min(kept, all.size()));
  const std::size_t begin = std::max(kept, prompt_begin);
  return all.substr(begin, prompt_end - begin);
}

ChatText mistral_chat(std::string_view prompt) {
  constexpr std::string_view kPicture = "[IMG]";
  std::string text(prompt);
  for (std::size_t at = 0; (at = text.find(kPicture, at)) != std::string::npos;) {
    text.erase(at, kPicture.size());
  }
  return chat_of(fmt::format("<s>[SYSTEM_PROMPT]{}[/SYSTEM_PROMPT][INST]", kSystemMessage), text,
                 "[/INST]");
}

ChatText qwen3_chat(std::string_view prompt) {
  return chat_of("<|im_start|>user\n", prompt,
                 "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n");
}

const Flux2Variant& flux2_variant(const ModelFolder& folder) {
  const auto* const found =
      std::ranges::find(kVariants, folder.index().class_name, &Flux2Variant::pipeline);
  if (found == std::end(kVariants)) {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("{}: {} is no pipeline of FLUX.2", folder.path().string(),
                            quote(folder.index().class_name)));
  }
  return *found;
}

}  // namespace dither
