#include "io/json_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <limits>

#include "base/test_util.h"

namespace dither {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StrEq;
using ::testing::TestWithParam;
using ::testing::Values;

JsonConfig config(std::string_view text) { return JsonConfig::parse(text, "vae/config.json"); }

TEST(JsonConfig, ReadsEveryType) {
  const auto c = config(R"({"b":true,"i":-3,"l":9223372036854775807,"f":0.5,"whole":2,"s":"é",
                            "is":[1,2],"ss":["x"],"pairs":[[1,2],[]],"o":{"k":1},"os":[{"k":2}]})");
  EXPECT_TRUE(c.get<bool>("b"));
  EXPECT_EQ(c.get<int>("i"), -3);
  EXPECT_EQ(c.get<std::int64_t>("l"), std::numeric_limits<std::int64_t>::max());
  EXPECT_EQ(c.get<float>("f"), 0.5F);
  EXPECT_EQ(c.get<double>("whole"), 2.0);
  EXPECT_EQ(c.get<std::string>("s"), "é");
  EXPECT_THAT(c.get<std::vector<int>>("is"), ElementsAre(1, 2));
  EXPECT_THAT(c.get<std::vector<std::string>>("ss"), ElementsAre("x"));
  EXPECT_THAT(c.get<std::vector<std::vector<int>>>("pairs"),
              ElementsAre(ElementsAre(1, 2), IsEmpty()));
  EXPECT_EQ(c.get<JsonConfig>("o").get<int>("k"), 1);
  EXPECT_EQ(c.get<std::vector<JsonConfig>>("os").at(0).get<int>("k"), 2);
  EXPECT_THAT(c.unread_keys(), IsEmpty());
}

TEST(JsonConfig, NullAndAbsentTakeTheFallback) {
  const auto c = config(R"({"n":null,"i":1})");
  EXPECT_EQ(c.get<int>("n", 7), 7);
  EXPECT_EQ(c.get<int>("absent", 7), 7);
  EXPECT_EQ(c.get<int>("i", 7), 1);
  EXPECT_EQ(c.find<std::string>("n"), std::nullopt);
  EXPECT_TRUE(c.has("n"));
  EXPECT_FALSE(c.has("absent"));
}

TEST(JsonConfig, ListsUnreadKeys) {
  const auto c =
      config(R"({"_class_name":"X","a":1,"b":null,"c":2,"o":{"x":1,"y":2},"p":{"z":1}})");
  c.get<int>("a");
  c.find<int>("b");
  c.get<JsonConfig>("o").get<int>("x");
  EXPECT_THAT(c.unread_keys(), ElementsAre("c", "p", "o.y"));
  c.ignore({"c", "p"});
  c.get<JsonConfig>("o").ignore({"y"});
  EXPECT_THAT(c.unread_keys(), IsEmpty());
}

TEST(JsonConfig, ExpectAcceptsWhatIsSupported) {
  const auto c = config(R"({"act":"silu","n":null,"axes":[1,2]})");
  c.expect<std::string>("act", "silu");
  c.expect<std::string>("n", "silu");
  c.expect<std::string>("absent", "silu");
  c.expect<std::vector<int>>("axes", {1, 2});
  const Error error = error_of([&] { c.expect<std::string>("act", "gelu"); });
  EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
  EXPECT_STREQ(error.what(), R"(vae/config.json: 'act' is "silu", only "gelu" is supported)");
  EXPECT_STREQ(error_of([&] { c.expect<std::vector<int>>("axes", {1}); }).what(),
               "vae/config.json: 'axes' is [1,2], only [1] is supported");
}

struct WrongType {
  const char* name;
  const char* text;
  std::function<void(const JsonConfig&)> read;
  const char* message;
};
class JsonConfigNames : public TestWithParam<WrongType> {};

TEST_P(JsonConfigNames, FileAndKey) {
  const Error error = error_of([] { GetParam().read(config(GetParam().text)); });
  EXPECT_EQ(error.code(), ErrorCode::kDataLoss);
  EXPECT_THAT(error.what(), StrEq(std::string("vae/config.json: ") + GetParam().message));
}
INSTANTIATE_TEST_SUITE_P(
    Table, JsonConfigNames,
    Values(WrongType{"Missing", "{}", [](auto& c) { c.template get<int>("k"); },
                     "'k' must be a 32-bit integer, is missing"},
           WrongType{"Null", R"({"k":null})", [](auto& c) { c.template get<bool>("k"); },
                     "'k' must be a boolean, is null"},
           WrongType{"StringForInteger", R"({"k":"two"})",
                     [](auto& c) { c.template get<std::int64_t>("k"); },
                     R"('k' must be an integer, is "two")"},
           WrongType{"FractionForInteger", R"({"k":1.5})",
                     [](auto& c) { c.template get<int>("k", 1); },
                     "'k' must be a 32-bit integer, is 1.5"},
           WrongType{"IntegerTooLarge", R"({"k":2147483648})",
                     [](auto& c) { c.template get<int>("k"); },
                     "'k' must be a 32-bit integer, is 2147483648"},
           WrongType{"UnsignedTooLarge", R"({"k":9223372036854775808})",
                     [](auto& c) { c.template get<std::int64_t>("k"); },
                     "'k' must be an integer, is 9223372036854775808"},
           WrongType{"BeyondFloat", R"({"k":1e39})", [](auto& c) { c.template get<float>("k"); },
                     "'k' must be a finite number, is 1e+39"},
           WrongType{"IntegerForBoolean", R"({"k":1})", [](auto& c) { c.template get<bool>("k"); },
                     "'k' must be a boolean, is 1"},
           WrongType{"NumberForArray", R"({"k":1})",
                     [](auto& c) { c.template get<std::vector<int>>("k"); },
                     "'k' must be an array, is 1"},
           WrongType{"Element", R"({"k":[1,"x"]})",
                     [](auto& c) { c.template get<std::vector<int>>("k"); },
                     R"('k[1]' must be a 32-bit integer, is "x")"},
           WrongType{"NullElement", R"({"k":[null]})",
                     [](auto& c) { c.template get<std::vector<std::string>>("k"); },
                     "'k[0]' must be a string, is null"},
           WrongType{
               "Inner", R"({"o":{"k":[]}})",
               [](auto& c) { c.template get<JsonConfig>("o").template get<std::string>("k"); },
               "'o.k' must be a string, is []"},
           WrongType{"LongValue",
                     R"({"k":"0123456789012345678901234567890123456789012345678901234567890"})",
                     [](auto& c) { c.template get<int>("k"); },
                     "'k' must be a 32-bit integer, is "
                     "\"01234567890123456789012345678901234567890123456789012345678..."}),
    [](const auto& row) { return std::string(row.param.name); });

struct BadText {
  const char* name;
  std::string text;
  const char* message;
};
class JsonConfigRefuses : public TestWithParam<BadText> {};

TEST_P(JsonConfigRefuses, Text) {
  const Error error = error_of([] { config(GetParam().text); });
  EXPECT_EQ(error.code(), ErrorCode::kDataLoss);
  EXPECT_THAT(error.what(), HasSubstr(std::string("vae/config.json: ") + GetParam().message));
}
INSTANTIATE_TEST_SUITE_P(
    Table, JsonConfigRefuses,
    Values(BadText{"Empty", "", "not valid JSON at byte 0"},
           BadText{"Array", "[1]", "must be a JSON object, is array"},
           BadText{"TrailingText", "{} x", "not valid JSON at byte 3"},
           BadText{"Comment", "{/**/}", "not valid JSON at byte 1"},
           BadText{"Nul", std::string("{}\0", 3), "not valid JSON at byte 2"},
           BadText{"NotUtf8", "{\"a\":\"\xC3\"}", "not valid JSON"},
           BadText{"DuplicateKey", R"({"a":1,"a":1})", "key 'a' stands twice"},
           BadText{"DuplicateInside", R"({"o":[{"a":1,"a":1}]})", "key 'a' stands twice"},
           BadText{"HugeNumber", R"({"a":1e999})", "holds a number out of range"},
           BadText{"Deep", "{\"a\":" + std::string(100000, '['), "nests deeper than 64 levels"}),
    [](const auto& row) { return std::string(row.param.name); });

TEST(JsonConfig, EqualKeysOfDifferentObjectsAreFine) {
  EXPECT_NO_THROW(config(R"({"a":{"k":1},"b":{"k":{"k":2}},"k":[{"k":1},{"k":1}]})"));
}

TEST(JsonConfig, RefusesAHugeFile) {
  const TempFolder folder;
  const auto file = folder.write("config.json", "{" + std::string(4 << 20, ' ') + "}");
  EXPECT_THAT(error_of([&] { JsonConfig::load(file); }).what(),
              HasSubstr("config.json: 4194306 bytes, the limit for this file is 4194304"));
  EXPECT_EQ(error_of([&] { JsonConfig::load(folder.path() / "none.json"); }).code(),
            ErrorCode::kNotFound);
}

}  // namespace
}  // namespace dither
