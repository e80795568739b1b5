#include "tokenizers/sentencepiece_model.h"

#include <gmock/gmock.h>

#include <filesystem>
#include <string>

#include "base/atomic_file.h"
#include "base/error.h"
#include "tokenizers/t5_tokenizer.h"

namespace dither {
namespace {

const std::filesystem::path kFile =
    std::filesystem::path(DITHER_SOURCE_DIR) / "models/emoji-flux/tokenizer_2/spiece.model";

TEST(SentencePieceModel, ReadsTheDemoModel) {
  const auto model = parse_sentencepiece_model(read_text_file(kFile, 1 << 20), "spiece.model");
  ASSERT_EQ(model.pieces.size(), 1900U);
  EXPECT_EQ(model.pieces[3].text, "\u2581a");
  EXPECT_FLOAT_EQ(static_cast<float>(model.pieces[3].score), -2.3172102F);
  EXPECT_EQ(model.types[1], SentencePieceModel::PieceType::kControl);
  EXPECT_EQ(model.unk_id, 2U);
  EXPECT_EQ(model.algorithm, SentencePieceModel::Algorithm::kUnigram);
}

/// Cut anywhere, the file is an error or a smaller model, never anything else.
TEST(SentencePieceModel, SurvivesTruncation) {
  const std::string bytes = read_text_file(kFile, 1 << 20);
  for (std::size_t size = 0; size < bytes.size(); size += size < 200 ? 1 : 997) {
    try {
      make_t5_tokenizer(parse_sentencepiece_model(std::string_view(bytes).substr(0, size), "x"),
                        {});
    } catch (const Error& error) {
      EXPECT_NE(error.code(), ErrorCode::kInternal);
    }
  }
}

struct BadCase {
  std::string bytes;
  std::string message;
};

class BadSentencePieceModel : public ::testing::TestWithParam<BadCase> {};

TEST_P(BadSentencePieceModel, IsDataLoss) {
  EXPECT_THAT([] { parse_sentencepiece_model(GetParam().bytes, "spiece.model"); },
              ::testing::ThrowsMessage<Error>(::testing::HasSubstr(GetParam().message)));
}

INSTANTIATE_TEST_SUITE_P(
    Table, BadSentencePieceModel,
    ::testing::Values(BadCase{"", "without pieces"}, BadCase{"\x0A\x05\x0A", "5 were announced"},
                      BadCase{"\x08", "byte 1 is followed by 0 bytes"},
                      BadCase{"\x0B", "wire type 3"},
                      BadCase{std::string(11, '\xFF'), "more than 10 bytes"},
                      BadCase{"\x0D\x01\x02\x03\x04", "field 1 of the wrong type"},
                      BadCase{"\x0A\x03\x0A\x01\xFF", "not UTF-8"},
                      BadCase{"\x0A\x02\x18\x09", "piece type 9"}));

}  // namespace
}  // namespace dither
