#include "tokenizers/tokenizer_json.h"

#include <fmt/format.h>

#include <cmath>
#include <optional>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "tokenizers/base64.h"
#include "tokenizers/utf8.h"

namespace dither {
namespace {

// Sequences of sequences are legal, but nobody nests them deeper than twice.
constexpr int kMaxNesting = 8;

// The members of a Sequence, each made by `parse(fields, depth + 1)`.
template <typename Step, typename Parse>
std::vector<Step> parse_sequence(const JsonFields& fields, const char* key, int depth,
                                 const Parse& parse) {
  if (depth >= kMaxNesting) fields.unsupported("nests sequences too deeply");
  std::vector<Step> steps;
  for (const Json& step : fields.array(key)) {
    steps.push_back(
        parse(JsonFields(step, fmt::format("{}[{}]", fields.where(), steps.size())), depth + 1));
  }
  return steps;
}

// {"String": text} or {"Regex": pattern}.
Regex parse_pattern(const JsonFields& fields) {
  const JsonFields pattern = fields.object("pattern");
  return located(fields, [&] {
    return pattern.has("Regex") ? Regex::compile(pattern.string("Regex"))
                                : Regex::literal(pattern.string("String"));
  });
}

std::string parse_charsmap(const JsonFields& fields) {
  auto bytes = decode_base64(fields.string("precompiled_charsmap"));
  if (!bytes) fields.fail("has a 'precompiled_charsmap' that is not base64");
  return *std::move(bytes);
}

NormalizerPtr parse_normalizer(const JsonFields& fields, int depth) {
  const std::string type = fields.string("type");
  if (type == "Sequence") {
    return sequence_normalizer(
        parse_sequence<NormalizerPtr>(fields, "normalizers", depth, parse_normalizer));
  }
  if (type == "NFC") return composing_normalizer(Composition::kCanonical);
  if (type == "NFKC") return composing_normalizer(Composition::kCompatibility);
  if (type == "Lowercase") return lower_case_normalizer();
  if (type == "Strip") {
    return strip_normalizer(fields.boolean("strip_left", true),
                            fields.boolean("strip_right", true));
  }
  if (type == "Replace") return replace_normalizer(parse_pattern(fields), fields.string("content"));
  if (type == "Prepend") return prepend_normalizer(fields.string("prepend"));
  if (type == "Precompiled") {
    return located(fields, [&] { return precompiled_normalizer(parse_charsmap(fields)); });
  }
  fields.unsupported(fmt::format("is a normalizer of type '{}', which is not supported", type));
}

PreTokenizerPtr parse_split(const JsonFields& fields) {
  const std::string behavior = fields.string("behavior");
  if (behavior != "Isolated" && behavior != "Removed") {
    fields.unsupported(
        fmt::format("has behavior '{}'; Isolated and Removed are supported", behavior));
  }
  return split_pre_tokenizer(
      parse_pattern(fields),
      behavior == "Isolated" ? SplitBehavior::kIsolated : SplitBehavior::kRemoved,
      fields.boolean("invert", false));
}

PreTokenizerPtr parse_metaspace(const JsonFields& fields) {
  std::string replacement = fields.string("replacement");
  if (replacement.empty() || utf8_length(replacement[0]) != replacement.size()) {
    fields.fail("has a 'replacement' that is not one character");
  }
  // Older files say add_prefix_space where newer ones say prepend_scheme.
  const std::string scheme =
      fields.optional_string("prepend_scheme")
          .value_or(fields.boolean("add_prefix_space", true) ? "always" : "never");
  PrependScheme prepend = PrependScheme::kNever;
  if (scheme == "always") {
    prepend = PrependScheme::kAlways;
  } else if (scheme == "first") {
    prepend = PrependScheme::kFirst;
  } else if (scheme != "never") {
    fields.fail(fmt::format("has prepend_scheme '{}'; it is always, first or never", scheme));
  }
  return metaspace_pre_tokenizer(std::move(replacement), prepend, fields.boolean("split", true));
}

PreTokenizerPtr parse_pre_tokenizer(const JsonFields& fields, int depth) {
  const std::string type = fields.string("type");
  if (type == "Sequence") {
    return sequence_pre_tokenizer(
        parse_sequence<PreTokenizerPtr>(fields, "pretokenizers", depth, parse_pre_tokenizer));
  }
  if (type == "Split") return parse_split(fields);
  if (type == "ByteLevel") {
    return byte_level_pre_tokenizer(fields.boolean("add_prefix_space", true),
                                    fields.boolean("use_regex", true));
  }
  if (type == "Metaspace") return parse_metaspace(fields);
  if (type == "WhitespaceSplit") return white_space_pre_tokenizer();
  fields.unsupported(fmt::format("is a pre-tokenizer of type '{}', which is not supported", type));
}

std::int32_t parse_id(const Json& value, const JsonFields& fields) {
  if (!value.is_number_integer() || value < 0 || value >= kMaxTokenId) {
    fields.fail(fmt::format("has a token id that is not an integer in 0..{}", kMaxTokenId - 1));
  }
  return value.get<std::int32_t>();
}

// ["</s>", 2]
std::int32_t parse_token_and_id(const JsonFields& fields, const char* key) {
  const Json& pair = fields.array(key);
  if (pair.size() != 2) fields.fail(fmt::format("'{}' is not a pair of token and id", key));
  return parse_id(pair[1], fields);
}

// "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}, ...]
PostProcessor parse_template(const JsonFields& fields) {
  PostProcessor result;
  bool text_seen = false;
  const JsonFields special_tokens = fields.object("special_tokens");
  for (const Json& item : fields.array("single")) {
    const JsonFields piece(item, fields.where() + ": single");
    if (piece.has("Sequence")) {
      if (std::exchange(text_seen, true)) piece.unsupported("repeats the text");
      continue;
    }
    const std::string name = piece.object("SpecialToken").string("id");
    for (const Json& id : special_tokens.object(name.c_str()).array("ids")) {
      (text_seen ? result.suffix : result.prefix).push_back(parse_id(id, piece));
    }
  }
  if (!text_seen) fields.fail("has a template without the text");
  return result;
}

PostProcessor parse_post_processor(const JsonFields& fields, int depth) {
  const std::string type = fields.string("type");
  if (type == "TemplateProcessing") return parse_template(fields);
  if (type == "RobertaProcessing") {
    return {{parse_token_and_id(fields, "cls")}, {parse_token_and_id(fields, "sep")}};
  }
  if (type == "ByteLevel") return {};  // touches offsets only
  if (type == "Sequence") {
    PostProcessor result;
    for (auto& step :
         parse_sequence<PostProcessor>(fields, "processors", depth, parse_post_processor)) {
      if (step.empty()) continue;
      // `tokenizers` hands the parts of the first to the second as if they were several texts.
      if (!result.empty()) fields.unsupported("has two post-processors that add tokens");
      result = std::move(step);
    }
    return result;
  }
  fields.unsupported(fmt::format("is a post-processor of type '{}', which is not supported", type));
}

std::pair<std::string, std::string> parse_merge(const Json& merge, const JsonFields& fields,
                                                std::size_t index) {
  if (merge.is_string()) {  // "a b"; tokens of this form hold no space
    const auto& text = merge.get_ref<const std::string&>();
    const std::size_t space = text.find(' ');
    if (space != std::string::npos && text.find(' ', space + 1) == std::string::npos) {
      return {text.substr(0, space), text.substr(space + 1)};
    }
  } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() &&
             merge[1].is_string()) {
    return {merge[0].get<std::string>(), merge[1].get<std::string>()};
  }
  fields.fail(fmt::format(R"(has a merge {} that is neither "a b" nor ["a", "b"])", index));
}

std::unique_ptr<const Model> parse_model(const JsonFields& fields) {
  // Files of old versions leave the type out; only a BPE has merges.
  const std::string type =
      fields.optional_string("type").value_or(fields.has("merges") ? "BPE" : "Unigram");
  if (type == "BPE") return located(fields, [&] { return make_bpe(parse_bpe(fields)); });
  if (type == "Unigram") {
    return located(fields, [&] { return make_unigram(parse_unigram(fields)); });
  }
  fields.unsupported(fmt::format("is of type '{}'; BPE and Unigram are supported", type));
}

JsonFields added_token_fields(const JsonFields& root, const Json& token, std::size_t index) {
  return {token, fmt::format("{}: added_tokens[{}]", root.where(), index)};
}

// `tokenizers` numbers added tokens itself and only warns when the file disagrees; ids that do not
// mean what the file says would be worse than an error.
void add_tokens(const JsonFields& root, TokenizerParts& parts) {
  std::size_t index = 0;
  for (const Json& item : root.array("added_tokens")) {
    const JsonFields fields = added_token_fields(root, item, index++);
    const std::int32_t stated = parse_id(fields.at("id"), fields);
    const std::int32_t id = parts.added_tokens.add(parse_added_token(fields), *parts.model);
    if (id != stated) fields.fail(fmt::format("states id {}, but its place gives {}", stated, id));
  }
}

}  // namespace

Vocabulary parse_bpe_vocabulary(const Json& vocabulary, const std::string& where) {
  const JsonFields fields(vocabulary, where);
  Vocabulary result;
  result.reserve(vocabulary.size());
  for (const auto& [token, id] : vocabulary.items()) result.emplace(token, parse_id(id, fields));
  return result;
}

BpeDefinition parse_bpe(const JsonFields& model) {
  BpeDefinition bpe;
  if (model.has("dropout") && model.at("dropout") != 0) model.unsupported("has dropout");
  if (!model.optional_string("continuing_subword_prefix").value_or("").empty()) {
    model.unsupported("has a continuing_subword_prefix");
  }
  bpe.unk_token = model.optional_string("unk_token");
  bpe.end_of_word_suffix = model.optional_string("end_of_word_suffix").value_or("");
  bpe.fuse_unk = model.boolean("fuse_unk", false);
  bpe.byte_fallback = model.boolean("byte_fallback", false);
  bpe.ignore_merges = model.boolean("ignore_merges", false);
  bpe.vocabulary = parse_bpe_vocabulary(model.at("vocab"), model.where() + ": vocab");
  const Json& merges = model.array("merges");
  bpe.merges.reserve(merges.size());
  for (const Json& merge : merges) {
    bpe.merges.push_back(parse_merge(merge, model, bpe.merges.size() + 1));
  }
  return bpe;
}

UnigramDefinition parse_unigram(const JsonFields& model) {
  UnigramDefinition unigram;
  unigram.byte_fallback = model.boolean("byte_fallback", false);
  if (model.has("unk_id"))
    unigram.unk_id = static_cast<std::size_t>(parse_id(model.at("unk_id"), model));
  const Json& pieces = model.array("vocab");
  unigram.pieces.reserve(pieces.size());
  for (const Json& piece : pieces) {
    if (!piece.is_array() || piece.size() != 2 || !piece[0].is_string() || !piece[1].is_number()) {
      model.fail(
          fmt::format("has a vocab entry {} that is not [piece, score]", unigram.pieces.size()));
    }
    unigram.pieces.push_back({piece[0].get<std::string>(), piece[1].get<double>()});
  }
  return unigram;
}

AddedToken parse_added_token(const JsonFields& fields) {
  AddedToken token;
  token.content = fields.string("content");
  if (token.content.empty()) fields.fail("has empty content");
  token.single_word = fields.boolean("single_word", false);
  token.lstrip = fields.boolean("lstrip", false);
  token.rstrip = fields.boolean("rstrip", false);
  // The default of tokenizers' AddedToken.
  token.normalized = fields.boolean("normalized", !fields.boolean("special", false));
  return token;
}

std::vector<AddedToken> parse_added_tokens(const JsonFields& root) {
  std::vector<AddedToken> tokens;
  if (!root.has("added_tokens")) return tokens;
  for (const Json& token : root.array("added_tokens")) {
    tokens.push_back(parse_added_token(added_token_fields(root, token, tokens.size())));
  }
  return tokens;
}

std::string find_precompiled_charsmap(const JsonFields& root) {
  if (!root.has("normalizer")) return {};
  const JsonFields normalizer = root.object("normalizer");
  const std::string type = normalizer.string("type");
  if (type == "Precompiled") return parse_charsmap(normalizer);
  if (type != "Sequence") return {};
  for (const Json& step : normalizer.array("normalizers")) {
    const JsonFields fields(step, normalizer.where());
    if (fields.string("type") == "Precompiled") return parse_charsmap(fields);
  }
  return {};
}

TokenizerParts parse_tokenizer_json(const Json& root, const std::string& where) {
  const JsonFields fields(root, where);
  TokenizerParts parts;
  parts.model = parse_model(fields.object("model"));
  if (fields.has("normalizer")) parts.normalizer = parse_normalizer(fields.object("normalizer"), 0);
  if (fields.has("pre_tokenizer")) {
    parts.pre_tokenizer = parse_pre_tokenizer(fields.object("pre_tokenizer"), 0);
  }
  if (fields.has("post_processor")) {
    parts.post_processor = parse_post_processor(fields.object("post_processor"), 0);
  }
  if (fields.has("added_tokens")) add_tokens(fields, parts);
  return parts;
}

}  // namespace dither
