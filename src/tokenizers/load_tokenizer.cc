#include "tokenizers/load_tokenizer.h"

#include <fmt/format.h>

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "base/atomic_file.h"
#include "base/error.h"
#include "tokenizers/clip_tokenizer.h"
#include "tokenizers/json_fields.h"
#include "tokenizers/sentencepiece_model.h"
#include "tokenizers/t5_tokenizer.h"
#include "tokenizers/tokenizer_config.h"
#include "tokenizers/tokenizer_json.h"

namespace dither {
namespace {

// Mistral's tokenizer.json, the largest that we know, has 17 MB.
constexpr std::size_t kMaxFileBytes = std::size_t{1} << 28U;

class Folder {
 public:
  explicit Folder(std::filesystem::path path) : path_(std::move(path)) {}

  std::string where(const char* name) const { return (path_ / name).string(); }
  bool has(const char* name) const {
    std::error_code ignored;
    return std::filesystem::exists(path_ / name, ignored);
  }
  std::string text(const char* name) const { return read_text_file(path_ / name, kMaxFileBytes); }
  Json json(const char* name) const { return parse_json(text(name), where(name)); }

 private:
  std::filesystem::path path_;
};

TokenizerConfig read_config(const Folder& folder) {
  std::optional<Json> config;
  std::optional<Json> special_tokens;
  std::optional<JsonFields> config_fields;
  std::optional<JsonFields> special_fields;
  if (folder.has("tokenizer_config.json")) {
    config = folder.json("tokenizer_config.json");
    config_fields.emplace(*config, folder.where("tokenizer_config.json"));
  }
  if (folder.has("special_tokens_map.json")) {
    special_tokens = folder.json("special_tokens_map.json");
    special_fields.emplace(*special_tokens, folder.where("special_tokens_map.json"));
  }
  return parse_tokenizer_config(config_fields ? &*config_fields : nullptr,
                                special_fields ? &*special_fields : nullptr);
}

TokenizerParts load_clip(const Folder& folder, TokenizerConfig config) {
  if (!folder.has("tokenizer.json")) {
    return make_clip_tokenizer(
        parse_vocab_and_merges(folder.json("vocab.json"), folder.where("vocab.json"),
                               folder.text("merges.txt"), folder.where("merges.txt")),
        config);
  }
  const Json root = folder.json("tokenizer.json");
  const JsonFields fields(root, folder.where("tokenizer.json"));
  if (config.added_tokens.empty()) config.added_tokens = parse_added_tokens(fields);
  return make_clip_tokenizer(parse_bpe(fields.object("model")), config);
}

TokenizerParts load_t5(const Folder& folder, TokenizerConfig config) {
  if (!folder.has("tokenizer.json")) {
    return make_t5_tokenizer(
        parse_sentencepiece_model(folder.text("spiece.model"), folder.where("spiece.model")),
        std::move(config));
  }
  const Json root = folder.json("tokenizer.json");
  const JsonFields fields(root, folder.where("tokenizer.json"));
  if (config.added_tokens.empty()) config.added_tokens = parse_added_tokens(fields);
  return make_t5_tokenizer(parse_unigram(fields.object("model")), find_precompiled_charsmap(fields),
                           config);
}

TokenizerParts load_generic(const Folder& folder, const TokenizerConfig& config) {
  TokenizerParts parts =
      parse_tokenizer_json(folder.json("tokenizer.json"), folder.where("tokenizer.json"));
  apply_config(config, parts);
  return parts;
}

TokenizerParts load_parts(const Folder& folder) {
  TokenizerConfig config = read_config(folder);
  const std::string& name = config.tokenizer_class;
  if (name == "CLIPTokenizer") return load_clip(folder, std::move(config));
  if (name == "T5Tokenizer") return load_t5(folder, std::move(config));
  if (folder.has("tokenizer.json")) return load_generic(folder, config);
  if (name.empty() && folder.has("spiece.model")) return load_t5(folder, std::move(config));
  if (name.empty() && folder.has("vocab.json")) return load_clip(folder, std::move(config));
  throw Error(ErrorCode::kNotFound,
              fmt::format("{}: no such file", folder.where("tokenizer.json")));
}

}  // namespace

std::unique_ptr<const Tokenizer> load_tokenizer(const std::filesystem::path& folder) {
  try {
    return std::make_unique<const Tokenizer>(load_parts(Folder(folder)));
  } catch (const Error& error) {
    // Checks that do not know of files still have to say where.
    if (std::string_view(error.what()).find(folder.string()) != std::string_view::npos) throw;
    throw Error(error.code(), fmt::format("{}: {}", folder.string(), error.what()));
  }
}

}  // namespace dither
