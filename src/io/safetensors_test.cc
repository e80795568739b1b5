#include "io/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <span>

#include "base/test_util.h"
#include "io/test_files.h"

namespace dither {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::Pair;
using ::testing::SizeIs;
using ::testing::TestWithParam;
using ::testing::Values;

constexpr const char* kTwoTensors = R"({"__metadata__":{"format":"pt"},)"
                                    R"("b.bias":{"dtype":"U8","shape":[3],"data_offsets":[8,11]},)"
                                    R"("a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]}})";

SafetensorsHeader parse(const std::string& file) {
  return parse_safetensors_header(std::as_bytes(std::span(file)), "f.safetensors");
}

TEST(Safetensors, ReadsViewsOfTheMapping) {
  const TempFolder folder;
  std::string data(11, '\0');
  const float values[] = {1.5F, -2.0F};
  std::memcpy(data.data(), values, sizeof values);
  data.replace(8, 3, "abc");
  std::string header = kTwoTensors;
  header.resize((header.size() + 7) / 8 * 8, ' ');
  const auto path = folder.write("x.safetensors", safetensors_bytes(header, data));

  Tensor kept;
  {
    const auto file = SafetensorsFile::open(path);
    EXPECT_EQ(file->description(), path.string());
    EXPECT_THAT(file->metadata(), ElementsAre(Pair("format", "pt")));
    ASSERT_THAT(file->tensors(), SizeIs(2));
    EXPECT_EQ(file->tensors()[0].name, "a");
    EXPECT_EQ(file->tensors()[0].file, path.string());
    EXPECT_EQ(file->tensors()[1].name, "b.bias");
    EXPECT_EQ(file->find("b"), nullptr);
    EXPECT_EQ(to_string(file->read("b.bias")), "U8 [3]");
    kept = file->read("a");
    EXPECT_EQ(kept.storage(), file->read("b.bias").storage());
    file->release(kept);
    const Error missing = error_of([&] { file->read("c"); });
    EXPECT_EQ(missing.code(), ErrorCode::kNotFound);
    EXPECT_THAT(missing.what(), HasSubstr("x.safetensors: no tensor 'c'"));
  }
  EXPECT_EQ(kept.data<float>()[0], 1.5F);  // the mapping outlives the file object
  EXPECT_EQ(kept.data<float>()[1], -2.0F);
}

TEST(Safetensors, CopiesAMisalignedTensorToAlignedMemory) {
  const TempFolder folder;
  const float value = 3.25F;
  std::string data(5, '\x7F');
  std::memcpy(data.data() + 1, &value, sizeof value);
  const std::string header = R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                             R"("f":{"dtype":"F32","shape":[],"data_offsets":[1,5]}} )";
  const auto file =
      SafetensorsFile::open(folder.write("x.safetensors", safetensors_bytes(header, data)));
  const Tensor tensor = file->read("f");
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(tensor.raw()) % alignof(float), 0U);
  EXPECT_EQ(*tensor.data<float>(), value);
  file->release(tensor);  // not the mapping's: stays as it is
  EXPECT_EQ(*tensor.data<float>(), value);
}

struct GoodHeader {
  const char* name;
  const char* header;
  std::size_t data_bytes;
  std::size_t tensors;
};
class SafetensorsAccepts : public TestWithParam<GoodHeader> {};

TEST_P(SafetensorsAccepts, Header) {
  const auto& good = GetParam();
  EXPECT_THAT(parse(safetensors_bytes(good.header, std::string(good.data_bytes, 'x'))).tensors,
              SizeIs(good.tensors));
}
INSTANTIATE_TEST_SUITE_P(
    Table, SafetensorsAccepts,
    Values(GoodHeader{"NoTensors", "{}", 0, 0},
           GoodHeader{"OnlyMetadata", R"({"__metadata__":{}})", 0, 0},
           GoodHeader{"LeadingAndTrailingSpace", "\n  {}  ", 0, 0},
           GoodHeader{"Scalar", R"({"a":{"dtype":"F64","shape":[],"data_offsets":[0,8]}})", 8, 1},
           GoodHeader{"ZeroSize",
                      R"({"z":{"dtype":"I64","shape":[4,0],"data_offsets":[1,1]},)"
                      R"("y":{"dtype":"I64","shape":[0],"data_offsets":[0,0]},)"
                      R"("a":{"dtype":"BOOL","shape":[1],"data_offsets":[0,1]}})",
                      1, 3},
           GoodHeader{"PackedFour", R"({"a":{"dtype":"F4","shape":[3,2],"data_offsets":[0,3]}})", 3,
                      1},
           GoodHeader{"PackedSix", R"({"a":{"dtype":"F6_E2M3","shape":[4],"data_offsets":[0,3]}})",
                      3, 1},
           GoodHeader{"FieldsInAnyOrder",
                      R"({"a":{"data_offsets":[0,2],"shape":[1],"dtype":"BF16"}})", 2, 1},
           GoodHeader{
               "ExtraFields",
               R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"n":1,"o":{"shape":[-1],)"
               R"("dtype":2},"l":[[],{"a":null}]}})",
               1, 1},
           GoodHeader{"MetadataNamedLikeFields",
                      R"({"__metadata__":{"dtype":"x","shape":"y","data_offsets":"z"}})", 0, 0}),
    [](const auto& row) { return std::string(row.param.name); });

struct LyingFile {
  const char* name;
  std::string file;
  const char* message;
  ErrorCode code = ErrorCode::kDataLoss;
};
class SafetensorsRefuses : public TestWithParam<LyingFile> {};

TEST_P(SafetensorsRefuses, LyingFile) {
  const Error error = error_of([] { parse(GetParam().file); });
  EXPECT_EQ(error.code(), GetParam().code) << error.what();
  EXPECT_THAT(error.what(), AllOf(HasSubstr("f.safetensors: "), HasSubstr(GetParam().message),
                                  Not(HasSubstr("\n"))));
}

/// A header with the tensor 'a' described by `fields`.
std::string one(const std::string& fields, std::size_t data_bytes) {
  return safetensors_bytes("{\"a\":{" + fields + "}}", std::string(data_bytes, 'x'));
}
/// Two U8 tensors with these spans.
std::string two(const std::string& a, const std::string& b, std::size_t data_bytes) {
  return safetensors_bytes(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":)" + a +
                               R"(},"b":{"dtype":"U8","shape":[2],"data_offsets":)" + b + "}}",
                           std::string(data_bytes, 'x'));
}
std::string with_length(std::uint64_t length, std::string_view rest) {
  std::string file = safetensors_bytes(rest);
  for (unsigned i = 0; i < 8; ++i) file[i] = static_cast<char>(length >> (8 * i));
  return file;
}
std::string json(std::string_view header) { return safetensors_bytes(header); }

INSTANTIATE_TEST_SUITE_P(
    Length, SafetensorsRefuses,
    Values(LyingFile{"Empty", "", "0 bytes, too short"},
           LyingFile{"SevenBytes", std::string(7, '\0'), "7 bytes, too short"},
           LyingFile{"HeaderBeyondFile", with_length(3, "{}"),
                     "header ends at byte 11, the file has 10"},
           LyingFile{"Header100MB", with_length(100'000'000, "{}"),
                     "header ends at byte 100000008"},
           LyingFile{"HeaderOverLimit", with_length(100'000'001, "{}"),
                     "states a header of 100000001 bytes, the format allows 100000000"},
           LyingFile{"HeaderWraps", with_length(~std::uint64_t{0}, "{}"),
                     "states a header of 18446744073709551615 bytes"},
           LyingFile{"ZeroLength", with_length(0, "{}"), "not valid JSON at byte 8"}),
    [](const auto& row) { return std::string(row.param.name); });

INSTANTIATE_TEST_SUITE_P(
    Json, SafetensorsRefuses,
    Values(LyingFile{"Array", json("[]"), "an array, not an object"},
           LyingFile{"Number", json("1"), "a number, not an object"},
           LyingFile{"Unclosed", json("{"), "not valid JSON at byte 9"},
           LyingFile{"Twice", json("{}{}"), "not valid JSON"},
           LyingFile{"NulInHeader", json(std::string_view("{}\0{", 4)),
                     "not valid JSON at byte 10"},
           LyingFile{"NotUtf8", json("{\"\xFF\":{}}"), "not valid JSON"},
           LyingFile{"DeepNesting", json(R"({"a":{"x":)" + std::string(1000, '[')),
                     "nests deeper than 128 levels"},
           LyingFile{"DuplicateTensor",
                     safetensors_bytes(R"({"a":{"dtype":"U8","shape":[],"data_offsets":[0,1]},)"
                                       R"("a":{"dtype":"U8","shape":[],"data_offsets":[0,1]}})",
                                       "x"),
                     "tensor 'a' stands twice"},
           LyingFile{"DuplicateField", one(R"("dtype":"U8","dtype":"I8")", 0),
                     "tensor 'a': field 'dtype' stands twice"},
           LyingFile{"DuplicateMetadata", json(R"({"__metadata__":{"k":"1","k":"2"}})"),
                     "metadata key 'k' stands twice"},
           LyingFile{"TwoMetadata", json(R"({"__metadata__":{},"__metadata__":{}})"),
                     "two '__metadata__' entries"},
           LyingFile{"NulInName", json(R"({"a\u0000b":{}})"), "a NUL in the name 'a\\x00b'"},
           LyingFile{"MetadataNumber", json(R"({"__metadata__":{"k":1}})"),
                     "metadata 'k' is a number, not a string"},
           LyingFile{"MetadataObject", json(R"({"__metadata__":{"k":{}}})"),
                     "metadata 'k' is an object, not a string"},
           LyingFile{"MetadataString", json(R"({"__metadata__":"pt"})"),
                     "'__metadata__' is a string, not an object"},
           LyingFile{"TensorNull", json(R"({"a":null})"), "tensor 'a' is null, not an object"}),
    [](const auto& row) { return std::string(row.param.name); });

INSTANTIATE_TEST_SUITE_P(
    Fields, SafetensorsRefuses,
    Values(
        LyingFile{"NoDtype", one(R"("shape":[],"data_offsets":[0,1])", 1), "has no 'dtype'"},
        LyingFile{"NoShape", one(R"("dtype":"U8","data_offsets":[0,1])", 1), "has no 'shape'"},
        LyingFile{"NoOffsets", one(R"("dtype":"U8","shape":[])", 1),
                  "'data_offsets' must be two byte positions"},
        LyingFile{"OneOffset", one(R"("dtype":"U8","shape":[],"data_offsets":[0])", 1),
                  "'data_offsets' must be two byte positions"},
        LyingFile{"ThreeOffsets", one(R"("dtype":"U8","shape":[],"data_offsets":[0,1,2])", 1),
                  "'data_offsets' must be two byte positions"},
        LyingFile{"UnknownDtype", one(R"("dtype":"F7","shape":[],"data_offsets":[0,1])", 1),
                  "tensor 'a': unknown dtype 'F7'", ErrorCode::kUnsupported},
        LyingFile{"DtypeNumber", one(R"("dtype":3,"shape":[],"data_offsets":[0,1])", 1),
                  "'dtype' holds a number"},
        LyingFile{"NegativeExtent", one(R"("dtype":"U8","shape":[-1],"data_offsets":[0,1])", 1),
                  "'shape' holds -1"},
        LyingFile{"FractionalExtent", one(R"("dtype":"U8","shape":[1.5],"data_offsets":[0,1])", 1),
                  "'shape' holds 1.5"},
        LyingFile{"NestedShape", one(R"("dtype":"U8","shape":[[1]],"data_offsets":[0,1])", 1),
                  "'shape' holds an array"},
        LyingFile{"HugeExtent",
                  one(R"("dtype":"U8","shape":[9223372036854775808],"data_offsets":[0,1])", 1),
                  "extent 9223372036854775808 is too large"},
        LyingFile{"OverflowingShape",
                  one(R"("dtype":"F64","shape":[4294967296,4294967296],"data_offsets":[0,8])", 8),
                  "F64 [4294967296, 4294967296] is not a whole number of bytes"},
        LyingFile{"OverflowBehindZero",
                  one(R"("dtype":"U8","shape":[0,4611686018427387904,4],"data_offsets":[0,0])", 0),
                  "U8 [0, 4611686018427387904, 4] is not a whole number of bytes"},
        LyingFile{"NineDimensions",
                  one(R"("dtype":"U8","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,1])", 1),
                  "more than 8 dimensions", ErrorCode::kUnsupported},
        LyingFile{"HalfAByte", one(R"("dtype":"F4","shape":[3],"data_offsets":[0,2])", 2),
                  "F4 [3] is not a whole number of bytes"}),
    [](const auto& row) { return std::string(row.param.name); });

INSTANTIATE_TEST_SUITE_P(
    Spans, SafetensorsRefuses,
    Values(LyingFile{"Overlap", two("[0,2]", "[1,3]", 3),
                     "tensor 'b' begins at data byte 1, inside 'a', which ends at 2"},
           LyingFile{"SameSpan", two("[0,2]", "[0,2]", 2),
                     "tensor 'b' begins at data byte 0, inside 'a', which ends at 2"},
           LyingFile{"Hole", two("[0,2]", "[3,5]", 5),
                     "data bytes [2, 3) before tensor 'b' belong to no tensor"},
           LyingFile{"HoleAtStart", two("[1,3]", "[3,5]", 5),
                     "data bytes [0, 1) before tensor 'a' belong to no tensor"},
           LyingFile{"Tail", two("[0,2]", "[2,4]", 9),
                     "data bytes [4, 9) after the last tensor belong to no tensor"},
           LyingFile{"DataWithoutTensors", safetensors_bytes("{}", "x"),
                     "data bytes [0, 1) after the last tensor"},
           LyingFile{"BeyondFile", two("[0,2]", "[2,4]", 3),
                     "tensor 'b': ends at data byte 4, the file has 3"},
           LyingFile{"Backwards", two("[2,0]", "[2,4]", 4),
                     "tensor 'a': begins at data byte 2 but ends at 0"},
           LyingFile{"TooShort", two("[0,1]", "[1,3]", 3),
                     "tensor 'a': U8 [2] takes 2 bytes, its span [0, 1) has 1"},
           LyingFile{"WrongDtype", one(R"("dtype":"F32","shape":[2],"data_offsets":[0,4])", 4),
                     "tensor 'a': F32 [2] takes 8 bytes, its span [0, 4) has 4"}),
    [](const auto& row) { return std::string(row.param.name); });

TEST(Safetensors, RefusesTruncationAtEveryByte) {
  const std::string file = safetensors_bytes(kTwoTensors, std::string(11, 'x'));
  ASSERT_NO_THROW(parse(file));
  for (std::size_t size = 0; size < file.size(); ++size) {
    EXPECT_EQ(error_of([&] { parse(file.substr(0, size)); }).code(), ErrorCode::kDataLoss) << size;
  }
}

TEST(Safetensors, AHugeNameDoesNotFillTheMessage) {
  const std::string name = std::string(99, 'n') + "ü" + std::string(100000, 'n');
  const Error error = error_of([&] { parse(json("{\"" + name + "\":1}")); });
  EXPECT_LT(std::strlen(error.what()), 200U);
  EXPECT_THAT(error.what(), HasSubstr("nnn... (100101 bytes)'"));
}

TEST(Safetensors, PaddingMayBeLong) {
  std::string header(1 << 20, ' ');
  header.replace(0, 1, "{");
  header.replace(header.size() - 1, 1, "}");
  EXPECT_THAT(parse(json(header)).tensors, SizeIs(0));
}

}  // namespace
}  // namespace dither
