#include "pipelines/wan/prompt_text.h"

#include <gmock/gmock.h>

#include <chrono>
#include <string>

#include "base/test_util.h"

namespace dither {
namespace {

using ::testing::HasSubstr;

struct Case {
  std::string text;
  std::string expected;
};

// The rules one by one; tests/golden/wan_prompts_test.cc holds many more against Python.
TEST(HtmlUnescape, FollowsPython) {
  for (const Case& test : {Case{"a cat", "a cat"},
                           {"&lt;b&gt;", "<b>"},
                           {"&amp;lt;", "&lt;"},
                           {"&notit;&notin;", "\u00ACit;\u2209"},
                           {"R&D, &c.", "R&D, &c."},
                           {"&acE;", "\u223E\u0333"},
                           {"&#65&#x42;&#X43", "ABC"},
                           {"&#150;&#0;&#xD800;&#x110000;&#1;", "\u2013\uFFFD\uFFFD\uFFFD"},
                           {"&#;&#x;&;&", "&#;&#x;&;&"}}) {
    EXPECT_EQ(html_unescape(test.text), test.expected) << test.text;
  }
}

TEST(CleanPrompt, UnescapesTwiceAndCollapsesWhiteSpace) {
  EXPECT_EQ(clean_prompt(" a\t\u3000&amp;nbsp; cat\x1c\n"), "a cat");
  EXPECT_EQ(clean_prompt("&amp;amp;amp;"), "&amp;");
  EXPECT_EQ(clean_prompt(" \r\n\u2028"), "");
  EXPECT_EQ(clean_prompt("\x1f a \x1c b\x1d"), "a \x1c b");  // at the ends only
}

TEST(CleanPrompt, NamesTheByteOfInvalidUtf8) {
  const Error error = error_of([] { clean_prompt("a &amp; \xFF"); });
  EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
  EXPECT_THAT(error.what(), HasSubstr("byte 8 (0xFF)"));
}

// A megabyte of references, found or not. The bound is loose; anything quadratic takes hours.
TEST(CleanPrompt, TakesAMegabyteInItsStride) {
  for (const std::string piece :
       {"&", "&amp;", "&ampersand", "&#65;", "& ", "&aaaaaaaaaaaaaaaaa"}) {
    std::string text;
    while (text.size() < 1'000'000) text += piece;
    const auto start = std::chrono::steady_clock::now();
    clean_prompt(text);
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(60));
  }
}

}  // namespace
}  // namespace dither
