#include "tokenizers/load_tokenizer.h"

#include <gmock/gmock.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <vector>

#include "base/atomic_file.h"
#include "base/error.h"
#include "tokenizers/json_fields.h"

namespace dither {
namespace {

namespace fs = std::filesystem;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Lt;

const fs::path kSource = DITHER_SOURCE_DIR;
const fs::path kModel = kSource / "models/emoji-flux";
constexpr std::size_t kMaxBytes = 1 << 24;

/// tests/golden/tokenizers.json: ids by transformers 5.23 and tokenizers 0.23 (versions inside).
const Json& golden() {
  static const Json json =
      parse_json(read_text_file(kSource / "tests/golden/tokenizers.json", kMaxBytes), "golden");
  return json;
}

/// A folder of the test's own, removed afterwards.
class TemporaryFolder {
 public:
  TemporaryFolder()
      : path_(fs::path(::testing::TempDir()) /
              ("dither_tokenizers_test_" + std::to_string(::getpid()))) {
    fs::create_directories(path_);
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  void copy(const fs::path& folder, const std::vector<std::string>& names) const {
    for (const auto& name : names) fs::copy_file(folder / name, path_ / name);
  }
  void write(const std::string& name, std::string_view text) const {
    write_file(path_ / name, text);
  }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

struct Source {
  std::string name;    ///< Key of the golden ids.
  std::string folder;  ///< Below the source tree.
  std::vector<std::string> files;
};

class Golden : public ::testing::TestWithParam<Source> {};

TEST_P(Golden, MatchesTransformers) {
  const TemporaryFolder folder;
  folder.copy(kSource / GetParam().folder, GetParam().files);
  const auto tokenizer = load_tokenizer(folder.path());
  for (const Json& test : golden()["cases"]) {
    const auto text = test["text"].get<std::string>();
    const auto expected = test[GetParam().name].get<std::vector<std::int32_t>>();
    EXPECT_EQ(tokenizer->encode(text), expected) << test["text"].dump();
    EXPECT_THAT(expected, Each(Lt(tokenizer->vocab_size())));
  }
}

INSTANTIATE_TEST_SUITE_P(
    FourWaysAndGeneric, Golden,
    ::testing::Values(
        Source{"clip",
               "models/emoji-flux/tokenizer",
               {"vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json"}},
        Source{"clip",
               "models/emoji-flux/tokenizer",
               {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"}},
        Source{"t5",
               "models/emoji-flux/tokenizer_2",
               {"spiece.model", "tokenizer_config.json", "special_tokens_map.json"}},
        Source{"t5",
               "models/emoji-flux/tokenizer_2",
               {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"}},
        Source{"t5", "models/emoji-flux/tokenizer_2", {"spiece.model"}},
        Source{"t5", "models/emoji-flux/tokenizer_2", {"tokenizer.json"}},
        Source{"qwen", "tests/golden/tokenizers/qwen", {"tokenizer.json"}},
        Source{"mistral", "tests/golden/tokenizers/mistral", {"tokenizer.json"}},
        Source{"llama", "tests/golden/tokenizers/llama", {"tokenizer.json"}}));

}  // namespace
}  // namespace dither
