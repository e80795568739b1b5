// Tokenizers of FLUX.2 against Hugging Face tokenizers: make_flux2_tokens.py made the ids.
#include <gmock/gmock.h>

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "base/atomic_file.h"
#include "golden/golden.h"
#include "tokenizers/load_tokenizer.h"

namespace dither::golden {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAreArray;

constexpr const char* kTekken = "DITHER_TEKKEN_TOKENIZER";

nlohmann::json golden_tokens() {
  constexpr std::size_t kMaxBytes = std::size_t{4} << 20;
  return nlohmann::json::parse(
      read_text_file(source_dir() / "tests/golden/flux2/tokens.json", kMaxBytes));
}

/// As many prompts as there are ids.
void expect_ids(const fs::path& folder, const char* name) {
  const nlohmann::json golden = golden_tokens();
  const auto prompts = golden.at("prompts").get<std::vector<std::string>>();
  const auto ids = golden.at(name).get<std::vector<std::vector<std::int32_t>>>();
  ASSERT_FALSE(ids.empty());
  ASSERT_LE(ids.size(), prompts.size());
  const auto tokenizer = load_tokenizer(folder);
  for (std::size_t i = 0; i < ids.size(); ++i) {
    EXPECT_THAT(tokenizer->encode(prompts[i]), ElementsAreArray(ids[i])) << prompts[i];
  }
}

TEST(Flux2Tokens, TinyMistral) {
  expect_ids(source_dir() / "tests/golden/flux2/dev/tokenizer", "dev");
}

TEST(Flux2Tokens, TinyQwen) {
  expect_ids(source_dir() / "tests/golden/flux2/klein/tokenizer", "klein");
}

TEST(Flux2Tokens, Tekken) {
  const char* const folder = std::getenv(kTekken);
  if (folder == nullptr) {
    GTEST_SKIP() << kTekken << " is not set: Mistral's vocabulary of 131072 ids is not checked; "
                 << "tests/golden/make_flux2_tokens.py --tekken FOLDER makes the folder to name";
  }
  expect_ids(folder, "tekken");
}

}  // namespace
}  // namespace dither::golden
