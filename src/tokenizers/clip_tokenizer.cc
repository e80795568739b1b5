#include "tokenizers/clip_tokenizer.h"

#include <fmt/format.h>

#include <cstddef>
#include <utility>
#include <vector>

#include "base/error.h"
#include "tokenizers/tokenizer_json.h"

namespace dither {
namespace {

constexpr std::string_view kWords =
    R"(<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+)";

NormalizerPtr normalizer() {
  std::vector<NormalizerPtr> steps;
  steps.push_back(composing_normalizer(Composition::kCanonical));
  steps.push_back(replace_normalizer(Regex::compile(R"(\s+)"), " "));
  steps.push_back(lower_case_normalizer());
  return sequence_normalizer(std::move(steps));
}

PreTokenizerPtr pre_tokenizer() {
  std::vector<PreTokenizerPtr> steps;
  steps.push_back(split_pre_tokenizer(Regex::compile(kWords), SplitBehavior::kRemoved, true));
  steps.push_back(byte_level_pre_tokenizer(false, true));
  return sequence_pre_tokenizer(std::move(steps));
}

}  // namespace

BpeDefinition parse_vocab_and_merges(const Json& vocabulary, const std::string& vocabulary_where,
                                     std::string_view merges, const std::string& merges_where) {
  BpeDefinition bpe;
  bpe.vocabulary = parse_bpe_vocabulary(vocabulary, vocabulary_where);
  for (std::size_t line_number = 1; !merges.empty(); ++line_number) {
    const std::size_t end = std::min(merges.find('\n'), merges.size());
    std::string_view line = merges.substr(0, end);
    merges.remove_prefix(std::min(end + 1, merges.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.starts_with("#version")) continue;
    const std::size_t space = line.find(' ');
    if (space == std::string_view::npos || line.find(' ', space + 1) != std::string_view::npos) {
      throw Error(ErrorCode::kDataLoss,
                  fmt::format("{}: line {} is not two tokens with a space between", merges_where,
                              line_number));
    }
    bpe.merges.emplace_back(line.substr(0, space), line.substr(space + 1));
  }
  return bpe;
}

TokenizerParts make_clip_tokenizer(BpeDefinition bpe, const TokenizerConfig& config) {
  TokenizerConfig complete = config;
  AddedToken end_of_text;
  end_of_text.content = "<|endoftext|>";
  AddedToken start_of_text;
  start_of_text.content = "<|startoftext|>";
  complete.named.try_emplace("bos_token", start_of_text);
  for (const char* name : {"eos_token", "unk_token", "pad_token"}) {
    complete.named.try_emplace(name, end_of_text);
  }

  bpe.unk_token = complete.named["unk_token"].content;
  bpe.end_of_word_suffix = "</w>";
  TokenizerParts parts;
  parts.model = make_bpe(std::move(bpe));
  parts.normalizer = normalizer();
  parts.pre_tokenizer = pre_tokenizer();
  apply_config(complete, parts);
  parts.post_processor = {{*parts.added_tokens.id_of(complete.named["bos_token"].content)},
                          {*parts.added_tokens.id_of(complete.named["eos_token"].content)}};
  return parts;
}

}  // namespace dither
