#include "tokenizers/t5_tokenizer.h"

#include <fmt/format.h>

#include <cstddef>
#include <utility>
#include <vector>

#include "base/error.h"

namespace dither {
namespace {

constexpr const char* kWordStart = "\u2581";  // ▁

PreTokenizerPtr pre_tokenizer() {
  std::vector<PreTokenizerPtr> steps;
  steps.push_back(white_space_pre_tokenizer());
  steps.push_back(metaspace_pre_tokenizer(kWordStart, PrependScheme::kAlways, true));
  return sequence_pre_tokenizer(std::move(steps));
}

AddedToken special(std::string content) {
  AddedToken token;
  token.content = std::move(content);
  return token;
}

}  // namespace

TokenizerParts make_t5_tokenizer(UnigramDefinition unigram, std::string_view charsmap,
                                 const TokenizerConfig& config) {
  TokenizerConfig complete = config;
  for (const auto& [name, content] :
       {std::pair{"eos_token", "</s>"}, {"unk_token", "<unk>"}, {"pad_token", "<pad>"}}) {
    complete.named.try_emplace(name, special(content));
  }
  if (complete.extra_special_tokens.empty()) {
    for (std::size_t i = 0; i < complete.extra_ids; ++i) {
      complete.extra_special_tokens.push_back(special(fmt::format("<extra_id_{}>", i)));
    }
  }

  unigram.byte_fallback = false;
  TokenizerParts parts;
  parts.model = make_unigram(unigram);
  if (!charsmap.empty()) parts.normalizer = precompiled_normalizer(charsmap);
  parts.pre_tokenizer = pre_tokenizer();
  apply_config(complete, parts);
  parts.post_processor = {{}, {*parts.added_tokens.id_of(complete.named["eos_token"].content)}};
  return parts;
}

TokenizerParts make_t5_tokenizer(SentencePieceModel model, TokenizerConfig config) {
  if (model.algorithm != SentencePieceModel::Algorithm::kUnigram) {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("SentencePiece model of type {}; unigram (1) is supported",
                            static_cast<int>(model.algorithm)));
  }
  std::vector<AddedToken> extra;
  for (std::size_t id = 0; id < model.pieces.size(); ++id) {
    const auto type = model.types[id];
    if ((type == SentencePieceModel::PieceType::kControl ||
         type == SentencePieceModel::PieceType::kUserDefined) &&
        !model.pieces[id].text.empty()) {
      extra.push_back(special(model.pieces[id].text));
    }
  }
  UnigramDefinition unigram{std::move(model.pieces), model.unk_id, false};
  for (std::size_t i = config.extra_ids; i-- > 0;) {
    unigram.pieces.push_back({fmt::format("<extra_id_{}>", i), 0.0});
    extra.push_back(special(unigram.pieces.back().text));
  }
  config.extra_special_tokens = std::move(extra);
  return make_t5_tokenizer(std::move(unigram), model.precompiled_charsmap, config);
}

}  // namespace dither
