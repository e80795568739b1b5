// Prompts of Wan, cleaned and tokenized, against diffusers and transformers: make_wan_prompts.py.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/atomic_file.h"
#include "base/test_util.h"
#include "golden/golden.h"
#include "pipelines/wan/html_references.h"
#include "pipelines/wan/prompt_text.h"
#include "tokenizers/load_tokenizer.h"

namespace dither::golden {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAreArray;
using Ids = std::vector<std::int32_t>;

constexpr std::size_t kLength = 512;
constexpr std::size_t kMaxBytes = std::size_t{1} << 20;

const nlohmann::json& golden() {
  static const nlohmann::json json = nlohmann::json::parse(
      read_text_file(source_dir() / "tests/golden/wan/prompts.json", kMaxBytes));
  return json;
}

std::string cleaned(const nlohmann::json& test) {
  return test.contains("clean") ? test["clean"].get<std::string>()
                                : test["text"].get<std::string>();
}

TEST(WanPrompts, AreCleanedAsDiffusersDoes) {
  for (const nlohmann::json& test : golden()["cases"]) {
    EXPECT_EQ(clean_prompt(test["text"].get<std::string>()), cleaned(test)) << test["text"].dump();
  }
}

TEST(WanPrompts, EveryNamedReferenceIsPythons) {
  std::istringstream table{std::string(html_reference_table())};
  std::string lines;
  int names = 0;
  for (std::string entry; table >> entry; ++names) {
    const std::string name = entry.substr(0, entry.find(';'));
    lines += fmt::format("&{0};\n&{0}\n", name);
  }
  std::uint64_t hash = 0xCBF29CE484222325;  // FNV-1a
  for (const char byte : html_unescape(lines)) {
    hash = (hash ^ static_cast<unsigned char>(byte)) * 0x100000001B3;
  }
  EXPECT_EQ(names, golden()["references"]["names"].get<int>());
  EXPECT_EQ(fmt::format("{:016x}", hash), golden()["references"]["fnv1a"].get<std::string>());
}

class WanTokens : public testing::TestWithParam<const char*> {};

// tokenizer.json and spiece.model, each without the other.
TEST_P(WanTokens, EqualTransformers) {
  const TempFolder folder;
  for (const char* name : {GetParam(), "tokenizer_config.json", "special_tokens_map.json"}) {
    fs::copy_file(source_dir() / "tests/golden/wan/tokenizer" / name, folder.path() / name);
  }
  const auto tokenizer = load_tokenizer(folder.path());
  EXPECT_EQ(tokenizer->pad_id(), 0);
  EXPECT_EQ(tokenizer->id_of("<unk>"), 3);
  EXPECT_EQ(tokenizer->vocab_size(), 330);
  for (const nlohmann::json& test : golden()["cases"]) {
    const std::string text = cleaned(test);
    auto ids = test["ids"].get<Ids>();
    EXPECT_EQ(tokenizer->encode(text), ids) << test["text"].dump();
    // Cut to 512 with </s> last, then padded with zeros.
    const std::size_t full = ids.size();
    if (full > kLength) ids[kLength - 1] = 1;
    ids.resize(kLength, 0);
    const TokenIds padded = tokenizer->encode_padded(text, kLength);
    EXPECT_EQ(padded.ids, ids) << test["text"].dump();
    EXPECT_EQ(padded.first, 0U);
    EXPECT_EQ(padded.count, std::min(full, kLength));
  }
}

INSTANTIATE_TEST_SUITE_P(Vocabularies, WanTokens, testing::Values("tokenizer.json", "spiece.model"),
                         [](const auto& file) {
                           return std::string(file.param).substr(0, 6) == "spiece" ? "spiece"
                                                                                   : "json";
                         });

}  // namespace
}  // namespace dither::golden
