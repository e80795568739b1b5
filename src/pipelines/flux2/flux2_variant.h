#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "io/model_folder.h"
#include "tokenizers/tokenizer.h"

namespace dither {

/// A chat as its language model takes it, special tokens spelled out, and where the prompt lies.
struct ChatText {
  std::string text;
  std::size_t prompt_begin = 0;
  std::size_t prompt_end = 0;

  /// The part of the prompt behind byte `kept` of the text; where that is empty, the text's rest.
  std::string_view cut_off(std::size_t kept) const;
};

/// Mistral-Small-3's chat of one turn behind FLUX.2's system message; "[IMG]", which would announce
/// a picture, is deleted from the prompt.
ChatText mistral_chat(std::string_view prompt);
/// Qwen3's chat of one turn, with the answer's thoughts already closed.
ChatText qwen3_chat(std::string_view prompt);

/// What tells the pipelines of FLUX.2 apart.
struct Flux2Variant {
  std::string_view pipeline;      ///< model_index.json's class
  std::string_view text_encoder;  ///< the class of its text encoder
  std::string_view encoder_name;  ///< in messages
  bool is_mistral;                ///< which config the text encoder has
  /// After how many layers of the text encoder prompts are read.
  std::array<std::int64_t, 3> output_layers;
  PaddingSide padding_side;
  ChatText (*chat)(std::string_view prompt);
  bool references_once = false;  ///< models::Flux2Inputs::references_once
  bool is_distilled = false;     ///< where model_index.json does not say
};

/// The variant of a folder's pipeline class. Throws kUnsupported for another class.
const Flux2Variant& flux2_variant(const ModelFolder& folder);

}  // namespace dither
