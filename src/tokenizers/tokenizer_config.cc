#include "tokenizers/tokenizer_config.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <cstdint>
#include <utility>

#include "base/error.h"
#include "tokenizers/tokenizer_json.h"

namespace dither {
namespace {

// Named special tokens in the order in which transformers registers them.
constexpr std::array kNames = {"bos_token", "eos_token", "unk_token", "sep_token",
                               "pad_token", "cls_token", "mask_token"};

// "</s>" or {"content": "</s>", ...}. A bare string is a special token, matched in raw text.
AddedToken parse_token(const Json& value, const std::string& where) {
  if (!value.is_string()) return parse_added_token({value, where});
  AddedToken token;
  token.content = value.get<std::string>();
  return token;
}

void parse_tokens(const JsonFields& fields, TokenizerConfig& config) {
  for (const char* name : kNames) {
    if (!fields.has(name)) continue;
    config.named[name] = parse_token(fields.at(name), fmt::format("{}: {}", fields.where(), name));
  }
  // The older name and the newer one.
  for (const char* key : {"additional_special_tokens", "extra_special_tokens"}) {
    if (!fields.has(key) || !fields.at(key).is_array()) continue;
    for (const Json& token : fields.array(key)) {
      config.extra_special_tokens.push_back(
          parse_token(token, fmt::format("{}: {}", fields.where(), key)));
    }
  }
}

std::vector<AddedToken> parse_added_tokens_decoder(const JsonFields& fields) {
  const Json& decoder = fields.at("added_tokens_decoder");
  if (!decoder.is_object()) fields.fail("has an 'added_tokens_decoder' that is not an object");
  std::map<std::int64_t, AddedToken> by_id;
  for (const auto& [key, token] : decoder.items()) {
    std::int64_t id = 0;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (error != std::errc{} || end != key.data() + key.size()) {
      fields.fail(fmt::format("has '{}' for an id in added_tokens_decoder", key));
    }
    by_id[id] = parse_added_token(
        {token, fmt::format("{}: added_tokens_decoder[{}]", fields.where(), key)});
  }
  std::vector<AddedToken> tokens;
  for (auto& [id, token] : by_id) tokens.push_back(std::move(token));
  return tokens;
}

void parse_config(const JsonFields& fields, TokenizerConfig& config) {
  config.tokenizer_class = fields.optional_string("tokenizer_class").value_or("");
  if (config.tokenizer_class.ends_with("Fast")) {
    config.tokenizer_class.resize(config.tokenizer_class.size() - 4);
  }
  parse_tokens(fields, config);
  if (fields.has("added_tokens_decoder")) config.added_tokens = parse_added_tokens_decoder(fields);
  // transformers writes 1e30 for "no limit", as an integer that fits no machine word.
  if (fields.has("model_max_length") && fields.at("model_max_length").is_number_integer()) {
    const auto length = fields.integer("model_max_length");
    if (length <= 0) fields.fail(fmt::format("has model_max_length {}", length));
    config.model_max_length = static_cast<std::size_t>(length);
  }
  const auto padding_side = fields.optional_string("padding_side").value_or("right");
  if (padding_side != "right" && padding_side != "left") {
    fields.fail(fmt::format("has padding_side '{}'; it is left or right", padding_side));
  }
  config.padding_side = padding_side == "left" ? PaddingSide::kLeft : PaddingSide::kRight;
  if (fields.optional_string("truncation_side").value_or("right") != "right") {
    fields.unsupported("asks for truncation_side 'left'; 'right' is supported");
  }
  if (fields.has("extra_ids")) {
    const auto count = fields.integer("extra_ids");
    if (count < 0 || count > 100'000) fields.fail(fmt::format("has extra_ids {}", count));
    config.extra_ids = static_cast<std::size_t>(count);
  }
}

}  // namespace

std::string TokenizerConfig::named_or(const char* name, const char* absent) const {
  const auto found = named.find(name);
  return found == named.end() ? absent : found->second.content;
}

TokenizerConfig parse_tokenizer_config(const JsonFields* config, const JsonFields* special_tokens) {
  TokenizerConfig result;
  if (config != nullptr) parse_config(*config, result);
  const bool complete = config != nullptr && config->has("added_tokens_decoder");
  if (special_tokens != nullptr && !complete) parse_tokens(*special_tokens, result);
  return result;
}

void apply_config(const TokenizerConfig& config, TokenizerParts& parts) {
  const auto fill_in = [&parts](const AddedToken& token) {
    if (!parts.added_tokens.id_of(token.content)) parts.added_tokens.add(token, *parts.model);
  };
  for (const AddedToken& token : config.added_tokens) parts.added_tokens.add(token, *parts.model);
  for (const char* name : kNames) {
    const auto found = config.named.find(name);
    if (found != config.named.end()) fill_in(found->second);
  }
  for (const AddedToken& token : config.extra_special_tokens) fill_in(token);
  const auto pad = config.named.find("pad_token");
  if (pad != config.named.end()) parts.pad_id = parts.added_tokens.id_of(pad->second.content);
  parts.model_max_length = config.model_max_length;
  parts.padding_side = config.padding_side;
}

}  // namespace dither
