#include "tokenizers/byte_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/test_util.h"

namespace dither {
namespace {

using ::testing::ElementsAre;
using ::testing::Values;

TEST(ByteTokenizer, ClipHasBeginAndEnd) {
  const Tokenizer tokenizer = make_byte_clip_tokenizer(49408);
  EXPECT_THAT(tokenizer.encode("Az"), ElementsAre(49406, 'A', 'z', 49407));
  EXPECT_THAT(tokenizer.encode_padded("A", 5).ids, ElementsAre(49406, 'A', 49407, 49407, 49407));
  EXPECT_EQ(tokenizer.vocab_size(), 49408);
}

TEST(ByteTokenizer, T5HasAnEnd) {
  const Tokenizer tokenizer = make_byte_t5_tokenizer(32128);
  EXPECT_THAT(tokenizer.encode("A\xC3\xA9"), ElementsAre(2 + 'A', 2 + 0xC3, 2 + 0xA9, 1));
  EXPECT_THAT(tokenizer.encode_padded("A", 4).ids, ElementsAre(2 + 'A', 1, 0, 0));
}

TEST(ByteTokenizer, LongTextsAreCut) {
  const TokenIds ids = make_byte_t5_tokenizer(32128).encode_padded("abcdef", 4);
  EXPECT_THAT(ids.ids, ElementsAre(2 + 'a', 2 + 'b', 2 + 'c', 1));
  EXPECT_TRUE(ids.truncated());
  EXPECT_EQ(ids.full_count, 7U);
}

TEST(ByteTokenizer, SmallVocabulariesShareIds) {
  const Tokenizer tokenizer = make_byte_clip_tokenizer(12);
  EXPECT_EQ(tokenizer.vocab_size(), 12);
  EXPECT_THAT(tokenizer.encode("A"), ElementsAre(10, 'A' % 10, 11));
}

class NoByteTokenizer : public ::testing::TestWithParam<ByteVocabulary> {};

TEST_P(NoByteTokenizer, IsRefused) {
  const Error error = error_of([] { make_byte_tokenizer(GetParam()); });
  EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
}

INSTANTIATE_TEST_SUITE_P(Table, NoByteTokenizer,
                         Values(ByteVocabulary{.first = -1, .end_id = 300},
                                ByteVocabulary{.count = 0, .end_id = 300},
                                ByteVocabulary{.first = 0, .end_id = 7, .pad_id = 300},
                                ByteVocabulary{.first = 0, .end_id = 300, .pad_id = 7},
                                ByteVocabulary{.begin_id = 8, .end_id = 300, .pad_id = 300},
                                ByteVocabulary{.begin_id = 300, .end_id = 300, .pad_id = 301},
                                ByteVocabulary{.first = 5, .end_id = -1, .pad_id = 0}));

TEST(ByteTokenizer, NeedsRoomForSpecials) {
  EXPECT_THROW(make_byte_t5_tokenizer(2), Error);
  EXPECT_THROW(make_byte_clip_tokenizer(2), Error);
}

}  // namespace
}  // namespace dither
