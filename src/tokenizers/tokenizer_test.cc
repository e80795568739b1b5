#include "tokenizers/tokenizer.h"

#include <gmock/gmock.h>

#include <chrono>
#include <filesystem>
#include <string>

#include "base/error.h"
#include "tokenizers/load_tokenizer.h"

namespace dither {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const std::filesystem::path kModel = std::filesystem::path(DITHER_SOURCE_DIR) / "models/emoji-flux";

const Tokenizer& clip() {
  static const auto tokenizer = load_tokenizer(kModel / "tokenizer");
  return *tokenizer;
}

const Tokenizer& t5() {
  static const auto tokenizer = load_tokenizer(kModel / "tokenizer_2");
  return *tokenizer;
}

std::string repeat(std::string_view text, std::size_t count) {
  std::string result;
  for (std::size_t i = 0; i < count; ++i) result += text;
  return result;
}

TEST(EncodePadded, PadsOnTheRight) {
  const TokenIds clip_ids = clip().encode_padded("", 5);
  EXPECT_THAT(clip_ids.ids, ElementsAre(2046, 2047, 2047, 2047, 2047));
  EXPECT_EQ(clip_ids.count, 2U);
  EXPECT_FALSE(clip_ids.truncated());
  const TokenIds t5_ids = t5().encode_padded("", 4);
  EXPECT_THAT(t5_ids.ids, ElementsAre(1, 0, 0, 0));
  EXPECT_EQ(t5_ids.count, 1U);
}

TEST(EncodePadded, CutsBeforeTheSpecialTokensAndSaysWhere) {
  const std::string text = "a a a a of of";
  const TokenIds result = clip().encode_padded(text, 6);
  const auto all = clip().encode(text);
  EXPECT_THAT(result.ids, ElementsAre(all[0], all[1], all[2], all[3], all[4], all.back()));
  EXPECT_TRUE(result.truncated());
  EXPECT_EQ(result.full_count, all.size());
  EXPECT_EQ(text.substr(result.kept_bytes), "of of");
}

TEST(EncodePadded, CutPointSurvivesNormalisation) {
  // Three spaces collapse, the combining acute composes, A becomes a.
  const std::string text = "A   e\u0301t\u00e9 a";
  for (const Tokenizer* tokenizer : {&clip(), &t5()}) {
    const auto specials = tokenizer->encode("").size();
    const TokenIds result = tokenizer->encode_padded(text, specials + 1);
    EXPECT_EQ(text.substr(result.kept_bytes), "e\u0301t\u00e9 a");
  }
}

TEST(EncodePadded, ExactFitIsNotTruncated) {
  const std::string text = repeat("a ", 75);
  EXPECT_FALSE(clip().encode_padded(text, 77).truncated());
  EXPECT_TRUE(clip().encode_padded(text + "a", 77).truncated());
}

TEST(EncodePadded, RefusesALengthWithoutRoomForSpecialTokens) {
  EXPECT_THAT([] { clip().encode_padded("a", 1); },
              ::testing::ThrowsMessage<Error>(HasSubstr("max_length 1")));
}

TEST(Encode, NamesTheByteOfInvalidUtf8) {
  struct Case {
    std::string text;
    std::string message;
  };
  for (const Case& test :
       {Case{"ab\xFFz", "byte 2 (0xFF)"}, Case{"\xC0\x80", "byte 0 (0xC0)"},
        Case{"a\xED\xA0\x80", "byte 1 (0xED)"}, Case{"abc\xF0\x9F\x8D", "byte 3"},
        Case{"\xF4\x90\x80\x80", "byte 0"}, Case{"\xE0\x80\x80", "byte 0"}}) {
    EXPECT_THAT([&] { t5().encode(test.text); },
                ::testing::ThrowsMessage<Error>(HasSubstr(test.message)));
  }
}

TEST(Encode, StatesWhatTheModelNeedsToKnow) {
  EXPECT_EQ(clip().vocab_size(), 2048);
  EXPECT_EQ(t5().vocab_size(), 2000);
  EXPECT_EQ(clip().model_max_length(), 77U);
  EXPECT_EQ(t5().model_max_length(), 512U);
  EXPECT_EQ(clip().pad_id(), 2047);
  EXPECT_EQ(t5().id_of("<extra_id_0>"), 1999);
  EXPECT_EQ(t5().id_of("no such token"), std::nullopt);
}

/// Words and texts of a megabyte. The bound is loose (sanitizers, busy machines); anything
/// quadratic would take hours.
TEST(Encode, TakesAMegabyteInItsStride) {
  const std::size_t size = 1'000'000;
  for (const std::string& text :
       {repeat("a", size), repeat("a red apple ", size / 12), repeat(" ", size), repeat("!", size),
        repeat("\u0323\u0301", size / 4), repeat("\u0301\u0323", size / 4),
        repeat("\u6f22", size / 3), repeat("\U0001f468\u200d", size / 7), repeat("</s>", size / 4),
        repeat("\n", size)}) {
    const auto start = std::chrono::steady_clock::now();
    EXPECT_EQ(clip().encode_padded(text, 77).ids.size(), 77U);
    EXPECT_EQ(t5().encode_padded(text, 512).ids.size(), 512U);
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(60));
  }
}

}  // namespace
}  // namespace dither
