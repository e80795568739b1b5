#include "tokenizers/tokenizer_json.h"

#include <gmock/gmock.h>

#include <string>
#include <utility>

#include "base/error.h"

namespace dither {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A tokenizer.json around these parts; each is JSON.
std::string file(const std::string& model, const std::string& rest = "") {
  return R"({"model":)" + model + rest + "}";
}

const std::string kBpe = R"({"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]})";
const std::string kUnigram =
    R"({"type":"Unigram","unk_id":0,"vocab":[["<unk>",0],["a",-1],["b",-2.5],["ab",-3]]})";

Tokenizer make(const std::string& json) {
  return Tokenizer(parse_tokenizer_json(parse_json(json, "t.json"), "t.json"));
}

struct BadCase {
  std::string json;
  ErrorCode code;
  std::string message;
};

class BadTokenizerJson : public ::testing::TestWithParam<BadCase> {};

TEST_P(BadTokenizerJson, IsRefusedByName) {
  try {
    make(GetParam().json);
    FAIL() << "no error for " << GetParam().json.substr(0, 200);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), GetParam().code) << error.what();
    EXPECT_THAT(error.what(), HasSubstr(GetParam().message));
    EXPECT_THAT(error.what(), HasSubstr("t.json"));
  }
}

std::string nested_sequences(int depth) {
  std::string json = R"({"type":"NFC"})";
  for (int i = 0; i < depth; ++i) json = R"({"type":"Sequence","normalizers":[)" + json + "]}";
  return json;
}

INSTANTIATE_TEST_SUITE_P(
    Table, BadTokenizerJson,
    ::testing::Values(
        BadCase{"", ErrorCode::kDataLoss, "not JSON at byte 1"},
        BadCase{std::string(100'000, '['), ErrorCode::kDataLoss, "not JSON"},
        BadCase{"[]", ErrorCode::kDataLoss, "is array, not an object"},
        BadCase{"{}", ErrorCode::kDataLoss, "has no 'model'"},
        BadCase{file(R"({"type":"WordPiece"})"), ErrorCode::kUnsupported, "'WordPiece'"},
        BadCase{file(R"({"type":"BPE","vocab":{}})"), ErrorCode::kDataLoss, "has no 'merges'"},
        BadCase{file(R"({"type":"BPE","vocab":{"a":0,"b":0},"merges":[]})"), ErrorCode::kDataLoss,
                "id 0 belongs to"},
        BadCase{file(R"({"type":"BPE","vocab":{"a":99999999999},"merges":[]})"),
                ErrorCode::kDataLoss, "token id"},
        BadCase{file(R"({"type":"BPE","vocab":{"a":-1},"merges":[]})"), ErrorCode::kDataLoss,
                "token id"},
        BadCase{file(R"({"type":"BPE","vocab":{"a":0},"merges":["a b"]})"), ErrorCode::kDataLoss,
                "merge 1 ('a' 'b') needs token 'b'"},
        BadCase{file(R"({"type":"BPE","vocab":{"a":0},"merges":["a"]})"), ErrorCode::kDataLoss,
                "merge 1"},
        BadCase{file(R"({"type":"BPE","vocab":{"a":0},"merges":[],"unk_token":"u"})"),
                ErrorCode::kDataLoss, "unk_token 'u'"},
        BadCase{file(R"({"type":"Unigram","vocab":[]})"), ErrorCode::kDataLoss, "empty"},
        BadCase{file(R"({"type":"Unigram","vocab":[["a",0]],"unk_id":1})"), ErrorCode::kDataLoss,
                "unk_id 1"},
        BadCase{file(R"({"type":"Unigram","vocab":[["a"]]})"), ErrorCode::kDataLoss,
                "vocab entry 0"},
        BadCase{file(kBpe, R"(,"normalizer":{"type":"StripAccents"})"), ErrorCode::kUnsupported,
                "normalizer of type 'StripAccents'"},
        BadCase{file(kBpe, R"(,"normalizer":)" + nested_sequences(50)), ErrorCode::kUnsupported,
                "nests"},
        BadCase{file(kBpe, R"(,"normalizer":{"type":"Precompiled","precompiled_charsmap":"?"})"),
                ErrorCode::kDataLoss, "base64"},
        BadCase{
            file(kBpe, R"(,"normalizer":{"type":"Precompiled","precompiled_charsmap":"//8AAA=="})"),
            ErrorCode::kDataLoss, "claims a trie of 65535 bytes"},
        BadCase{file(kBpe, R"(,"pre_tokenizer":{"type":"Punctuation"})"), ErrorCode::kUnsupported,
                "pre-tokenizer of type 'Punctuation'"},
        BadCase{
            file(
                kBpe,
                R"(,"pre_tokenizer":{"type":"Split","behavior":"Isolated","pattern":{"Regex":"(a"}})"),
            ErrorCode::kDataLoss, "regular expression '(a'"},
        BadCase{file(kBpe, R"(,"post_processor":{"type":"BertProcessing"})"),
                ErrorCode::kUnsupported, "post-processor of type 'BertProcessing'"},
        BadCase{file(kBpe, R"(,"added_tokens":[{"id":7,"content":"x"}])"), ErrorCode::kDataLoss,
                "states id 7, but its place gives 3"}));

TEST(TokenizerJson, MergesInEitherSpelling) {
  EXPECT_THAT(make(file(kBpe)).encode("abba"), ElementsAre(2, 1, 0));
  EXPECT_THAT(make(file(R"({"vocab":{"a":0,"b":1,"ab":2},"merges":[["a","b"]]})")).encode("ab"),
              ElementsAre(2));
}

TEST(TokenizerJson, UnigramTakesTheLargestSumAndFusesUnknowns) {
  // "ab" scores -3, "a" + "b" -3.5.
  EXPECT_THAT(make(file(kUnigram)).encode("abxyb"), ElementsAre(3, 0, 2));
}

TEST(TokenizerJson, LimitsARegexThatBacktracksForever) {
  const Tokenizer tokenizer = make(file(
      kBpe,
      R"(,"pre_tokenizer":{"type":"Split","behavior":"Isolated","pattern":{"Regex":"(a+)+$"}})"));
  EXPECT_THROW(tokenizer.encode(std::string(200, 'a') + "b"), Error);
}

}  // namespace
}  // namespace dither
