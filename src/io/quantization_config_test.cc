#include "io/quantization_config.h"

#include <gmock/gmock.h>

#include "base/test_util.h"

namespace dither {
namespace {

using quant::Config;
using quant::Format;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::TestParamInfo;
using ::testing::Values;

Config parse(std::string_view text) {
  return parse_quantization_config(JsonConfig::parse(text, "config.json"));
}

struct Spelling {
  const char* name;
  const char* json;
  Format layer;     ///< of "blocks.3.to_q"
  Format excluded;  ///< of "proj_out"
  bool weight_only = false;
};

void PrintTo(const Spelling& spelling, std::ostream* out) { *out << spelling.name; }

class QuantizationSpelling : public ::testing::TestWithParam<Spelling> {};

TEST_P(QuantizationSpelling, IsUnderstood) {
  const Config config = parse(GetParam().json);
  EXPECT_EQ(quant::format_of(config, "blocks.3.to_q"), GetParam().layer);
  EXPECT_EQ(quant::format_of(config, "proj_out"), GetParam().excluded);
  EXPECT_EQ(config.weight_only, GetParam().weight_only);
  EXPECT_EQ(config.source, "config.json");
}

INSTANTIATE_TEST_SUITE_P(
    Table, QuantizationSpelling,
    Values(Spelling{"flat", R"({"quant_method":"modelopt","quant_algo":"FP8","ignore":["proj_out"],
            "config_groups":{"group_0":{"input_activations":{"dynamic":false,"num_bits":8,
            "type":"float"},"weights":{"dynamic":false,"num_bits":8,"type":"float"},
            "targets":["Linear"]}},"producer":{"name":"modelopt","version":"0.42.0"}})",
                    Format::kFp8, Format::kNone},
           Spelling{"lower_case_algorithm", R"({"quant_method":"modelopt","quant_algo":"fp8"})",
                    Format::kFp8, Format::kFp8},
           Spelling{"nested", R"({"producer":{"name":"modelopt","version":"0.19.0"},
            "quantization":{"quant_algo":"FP8","kv_cache_quant_algo":null,
            "exclude_modules":["proj_out*"]}})",
                    Format::kFp8, Format::kNone},
           Spelling{"nested_nvfp4", R"({"quantization":{"quant_algo":"NVFP4","group_size":16,
            "exclude_modules":["proj_out"]}})",
                    Format::kNvfp4, Format::kNone},
           Spelling{"quant_type_beside_algorithm",
                    R"({"quant_method":"modelopt","quant_algo":"FP8","quant_type":"FP8"})",
                    Format::kFp8, Format::kFp8},
           Spelling{"diffusers", R"({"quant_method":"modelopt","quant_type":"FP8",
            "modules_to_not_convert":["proj"]})",
                    Format::kFp8, Format::kNone, true},
           Spelling{"diffusers_with_activations",
                    R"({"quant_method":"modelopt","quant_type":"FP8","weight_only":false})",
                    Format::kFp8, Format::kFp8},
           Spelling{"method_alone", R"({"quant_method":"modelopt_fp8"})", Format::kFp8,
                    Format::kFp8},
           Spelling{"method_fp4", R"({"quant_method":"modelopt_fp4","quant_algo":"NVFP4"})",
                    Format::kNvfp4, Format::kNvfp4},
           Spelling{"layer_map", R"({"format_version":"1.0","layers":{
            "blocks.3.to_q":{"format":"nvfp4"},"blocks.3.to_k":{"format":"fp8"}}})",
                    Format::kNvfp4, Format::kNone},
           Spelling{"comfy_layer_map", R"({"layers":{"blocks.3.to_q":{"format":"float8_e4m3fn"}}})",
                    Format::kFp8, Format::kNone},
           Spelling{"mixed_precision", R"({"quant_method":"modelopt","quant_algo":"MIXED_PRECISION",
            "quantized_layers":{"blocks.3.to_q":{"quant_algo":"FP8"}}})",
                    Format::kFp8, Format::kNone}),
    [](const TestParamInfo<Spelling>& test) { return std::string(test.param.name); });

struct Refusal {
  const char* json;
  ErrorCode code;
  const char* message;
};

class QuantizationRefusal : public ::testing::TestWithParam<Refusal> {};

TEST_P(QuantizationRefusal, NamesWhatItRefuses) {
  const Error error = error_of([] { parse(GetParam().json); });
  EXPECT_EQ(error.code(), GetParam().code);
  EXPECT_THAT(error.what(), AllOf(HasSubstr("config.json"), HasSubstr(GetParam().message)));
}

constexpr ErrorCode kUnsupported = ErrorCode::kUnsupported;
constexpr ErrorCode kDataLoss = ErrorCode::kDataLoss;

INSTANTIATE_TEST_SUITE_P(
    Table, QuantizationRefusal,
    Values(Refusal{R"({"quant_algo":"NVFP4_AWQ"})", kUnsupported, "NVFP4_AWQ"},
           Refusal{R"({"quant_algo":"NVFP4_SVD"})", kUnsupported, "NVFP4_SVD"},
           Refusal{R"({"quant_algo":"W4A16_NVFP4"})", kUnsupported, "W4A16_NVFP4"},
           Refusal{R"({"quant_algo":"W4A8_NVFP4_FP8"})", kUnsupported, "W4A8_NVFP4_FP8"},
           Refusal{R"({"quant_algo":"FP8_PER_CHANNEL_PER_TOKEN"})", kUnsupported,
                   "FP8_PER_CHANNEL_PER_TOKEN"},
           Refusal{R"({"quant_algo":"FP8_PB_WO"})", kUnsupported, "FP8_PB_WO"},
           Refusal{R"({"quant_algo":"MXFP8"})", kUnsupported, "MXFP8"},
           Refusal{R"({"quant_algo":"W8A16"})", kUnsupported, "W8A16"},
           Refusal{R"({"quant_algo":"W8A8_SQ_PER_CHANNEL"})", kUnsupported, "W8A8_SQ_PER_CHANNEL"},
           Refusal{R"({"quant_algo":"MIXED_PRECISION"})", kUnsupported, "MIXED_PRECISION"},
           Refusal{R"({"quant_method":"bitsandbytes","load_in_4bit":true})", kUnsupported,
                   "bitsandbytes"},
           Refusal{R"({"quant_method":"fp8","activation_scheme":"dynamic"})", kUnsupported,
                   "'quant_method'"},
           Refusal{R"({"quant_method":"modelopt_fp4","quant_algo":"FP8"})", kDataLoss, "nvfp4"},
           Refusal{R"({"quant_algo":"FP8","quant_type":"NVFP4"})", kDataLoss, "quant_type"},
           Refusal{R"({"quant_method":"modelopt"})", kDataLoss, "quant_algo"},
           Refusal{R"({})", kDataLoss, "quant_algo"},
           Refusal{R"({"quant_algo":8})", kDataLoss, "quant_algo"},
           Refusal{R"({"quant_algo":"FP8","ignore":"proj_out"})", kDataLoss, "ignore"},
           Refusal{R"({"quant_algo":"FP8","config_groups":{"group_0":{"input_activations":
               {"dynamic":true}}}})",
                   kUnsupported, "dynamic"},
           Refusal{R"({"layers":{"a":{"format":"int8_blockwise"}}})", kUnsupported,
                   "int8_blockwise"},
           Refusal{R"({"layers":{"a":{"format":"float8_e5m2"}}})", kUnsupported, "float8_e5m2"},
           Refusal{R"({"layers":{"a":{}}})", kDataLoss, "format"}));

TEST(QuantizationConfig, StandsInSeveralPlacesOfAComponentsConfig) {
  for (const char* json : {R"({"quantization_config":{"quant_algo":"FP8"}})",
                           R"({"compression_config":{"quant_algo":"FP8"}})",
                           R"({"text_config":{"quantization_config":{"quant_algo":"FP8"}}})",
                           R"({"quantization_config":{"quant_algo":"FP8"},
                               "sparse_attention_config":{"skip_softmax":1}})"}) {
    const auto config = find_quantization_config(JsonConfig::parse(json, "config.json"));
    ASSERT_TRUE(config) << json;
    EXPECT_EQ(config->format, Format::kFp8);
  }
  EXPECT_FALSE(find_quantization_config(JsonConfig::parse(R"({"num_layers":1})", "config.json")));
}

FileMetadata shard(const char* file, const char* key, const char* text) {
  return {file, {{"format", "pt"}, {key, text}}};
}

TEST(QuantizationMetadata, IsReadFromEitherKey) {
  for (const char* key : {"quantization_config", "_quantization_metadata"}) {
    const FileMetadata files[] = {{"a", {}}, shard("b", key, R"({"quant_algo":"FP8"})")};
    const auto config = find_quantization_config(files);
    ASSERT_TRUE(config);
    EXPECT_EQ(config->format, Format::kFp8);
    EXPECT_THAT(config->source, AllOf(HasSubstr("b"), HasSubstr(key)));
  }
}

TEST(QuantizationMetadata, ShardsMustAgree) {
  const FileMetadata formats[] = {shard("a", "quantization_config", R"({"quant_algo":"FP8"})"),
                                  shard("b", "quantization_config", R"({"quant_algo":"NVFP4"})")};
  EXPECT_THAT(error_of([&] { find_quantization_config(formats); }).what(),
              AllOf(HasSubstr("a: metadata"), HasSubstr("b: metadata"), HasSubstr("formats")));
  const FileMetadata ignores[] = {
      shard("a", "quantization_config", R"({"quant_algo":"FP8"})"),
      shard("b", "quantization_config", R"({"quant_algo":"FP8","ignore":["x"]})")};
  EXPECT_EQ(error_of([&] { find_quantization_config(ignores); }).code(), ErrorCode::kDataLoss);
}

TEST(MergedQuantization, OnlyConfigJsonMayIgnoreMore) {
  const Config narrow = parse(R"({"quant_algo":"FP8","ignore":["a"]})");
  const Config wide = parse(R"({"quant_algo":"FP8","ignore":["b","a"]})");
  EXPECT_THAT(merge_quantization_configs(wide, narrow)->ignore, ElementsAre("b", "a"));
  EXPECT_THAT(error_of([&] { merge_quantization_configs(narrow, wide); }).what(), HasSubstr("'b'"));
  EXPECT_THAT(merge_quantization_configs({}, narrow)->ignore, ElementsAre("a"));
  EXPECT_FALSE(merge_quantization_configs({}, {}));
}

TEST(MergedQuantization, FormatsMustAgreeLayerByLayer) {
  const Config fp8 = parse(R"({"quant_algo":"FP8","ignore":["proj_out"]})");
  const Config nvfp4 = parse(R"({"quant_algo":"NVFP4"})");
  EXPECT_EQ(error_of([&] { merge_quantization_configs(fp8, nvfp4); }).code(), ErrorCode::kDataLoss);
  const Config same = parse(R"({"layers":{"a":{"format":"fp8"}}})");
  EXPECT_TRUE(merge_quantization_configs(fp8, same));
  const Config other = parse(R"({"layers":{"proj_out":{"format":"fp8"}}})");
  EXPECT_THAT(error_of([&] { merge_quantization_configs(fp8, other); }).what(),
              HasSubstr("'proj_out' is none in the first and fp8 in the second"));
}

}  // namespace
}  // namespace dither
