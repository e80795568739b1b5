#include "convert/modelopt_fp8.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <csignal>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <ostream>

#include "base/atomic_file.h"
#include "convert/test_export.h"
#include "io/checkpoint.h"

namespace dither::convert {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::UnorderedElementsAre;
using testing::Values;

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) {
    names.push_back(entry.path().filename().string());
  }
  return names;
}

std::unique_ptr<Checkpoint> result_of(const TestExport& test) {
  return open_checkpoint(test.options.output_dir / "model.safetensors.index.json");
}

std::vector<int> codes(const Tensor& tensor) {
  return {tensor.data<std::uint8_t>(), tensor.data<std::uint8_t>() + tensor.elements()};
}

Tensor fp8(const Shape& shape, const std::vector<std::uint8_t>& values) {
  Tensor tensor = Tensor::host(shape, DType::kF8E4M3);
  std::copy(values.begin(), values.end(), tensor.data<std::uint8_t>());
  return tensor;
}

TEST(ModelOptFp8, QuantizesByTheCalibratedAmax) {
  const TestExport test;
  const ModelOptFp8Report report = test.convert();
  const auto result = result_of(test);
  // {1, -2, 3, 4} * 448 / 4 = {112, -224, 336 (a tie: to even 320), 448}
  EXPECT_THAT(codes(result->read("a.weight")), ElementsAre(0x6E, 0xF6, 0x7A, 0x7E));
  EXPECT_EQ(*result->read("a.weight_scale").data<float>(), 4.0F / 448);
  EXPECT_EQ(*result->read("a.input_scale").data<float>(), 8.0F / 448);
  EXPECT_EQ(result->find("a.input_scale")->shape, (Shape{1}));
  EXPECT_EQ(result->find("skipped.weight")->dtype, DType::kF32);
  EXPECT_EQ(report.quantized_weights, 2U);
  EXPECT_EQ(report.added_scale_tensors, 4U);
  EXPECT_EQ(report.preserved_ignored_weights, 1U);
  EXPECT_EQ(report.copied_tensors, 2U);
  EXPECT_THAT(names_in(test.temp.path()), UnorderedElementsAre("hf", "backbone.pt", "out"));
}

TEST(ModelOptFp8, SaturatesAndCounts) {
  TestExport test;
  test.backbone = TorchState().amax("a", 2, 8).amax("b", 1, 2);
  const ModelOptFp8Report report = test.convert();
  EXPECT_EQ(report.clamped_values, 2U);
  EXPECT_THAT(report.clamped_layers, ElementsAre("a.weight"));
  EXPECT_THAT(codes(result_of(test)->read("a.weight")), ElementsAre(0x76, 0xFE, 0x7E, 0x7E));
}

TEST(ModelOptFp8, AmaxOfZeroMakesScaleOne) {
  TestExport test;
  test.tensors["b.weight"] = floats({2, 2}, {0, 0, 0, 0});
  test.backbone = TorchState().amax("a", 4, 8).amax("b", 0, 2);
  EXPECT_THAT(test.convert().zero_amax, ElementsAre("b.weight_quantizer"));
  const auto result = result_of(test);
  EXPECT_EQ(*result->read("b.weight_scale").data<float>(), 1.0F);
  EXPECT_THAT(codes(result->read("b.weight")), Each(0));
}

TEST(ModelOptFp8, KeepsCodesThatTheExportHas) {
  TestExport test;
  test.tensors["a.weight"] = fp8({2, 2}, {0x6E, 0xF6, 0x7A, 0x7E});
  test.tensors["a.weight_scale"] = floats({}, {4.0F / 448});
  const ModelOptFp8Report report = test.convert();
  EXPECT_EQ(report.kept_fp8_weights, 1U);
  const auto result = result_of(test);
  EXPECT_THAT(codes(result->read("a.weight")), ElementsAre(0x6E, 0xF6, 0x7A, 0x7E));
  EXPECT_EQ(result->find("a.weight_scale")->shape, (Shape{1}));
  EXPECT_EQ(*result->read("a.input_scale").data<float>(), 8.0F / 448);  // the backbone's
}

TEST(ModelOptFp8, TakesFallbacksWithTheirBiasesFromTheBase) {
  TestExport test;
  const fs::path base = test.temp.path() / "base";
  test.temp.write("base/config.json", "{}");
  write_safetensors(base / "model.safetensors",
                    {{"a.weight", floats({2, 2}, {1, 1, 1, 1})}, {"a.bias", floats({2}, {8, 9})}});
  test.options.base_transformer_dir = base;
  test.options.keep_bf16_patterns = {"^a$"};
  const ModelOptFp8Report report = test.convert();
  EXPECT_EQ(report.bf16_fallback_weights, 1U);
  EXPECT_THAT(report.added_ignore, ElementsAre("a"));
  const auto result = result_of(test);
  EXPECT_EQ(result->read("a.weight").data<float>()[1], 1.0F);
  EXPECT_EQ(result->read("a.bias").data<float>()[1], 9.0F);
  EXPECT_EQ(result->find("a.weight_scale"), nullptr);
  const auto config =
      nlohmann::json::parse(read_text_file(test.options.output_dir / "config.json", 4096));
  EXPECT_THAT(config["quantization_config"]["ignore"], ElementsAre("a", "skipped"));
}

TEST(ModelOptFp8, ReportsWhatNobodyCalibratedAndWhatNobodyNeeds) {
  TestExport test;
  test.tensors["embedder.weight"] = floats({3, 2}, {1, 2, 3, 4, 5, 6});
  test.backbone.amax("skipped", 7, 7).amax("gone", 1, 1);
  const ModelOptFp8Report report = test.convert();
  EXPECT_THAT(report.uncalibrated, ElementsAre("embedder"));
  EXPECT_THAT(report.added_ignore, ElementsAre("embedder"));
  EXPECT_THAT(report.surplus_amax, ElementsAre("gone", "skipped"));
}

TEST(ModelOptFp8, OverwriteSwapsTheOldResultOut) {
  TestExport test;
  test.temp.write("out/config.json", "old");
  test.temp.write("out/stale.safetensors", "old");
  test.options.overwrite = true;
  test.convert();
  EXPECT_THAT(
      names_in(test.options.output_dir),
      UnorderedElementsAre("config.json", "model.safetensors", "model.safetensors.index.json"));
  EXPECT_THAT(names_in(test.temp.path()), UnorderedElementsAre("hf", "backbone.pt", "out"));
}

TEST(ModelOptFp8, CancelledItLeavesNothing) {
  TestExport test;
  test.options.progress = [](auto, auto) { throw Error(ErrorCode::kCancelled, "stop"); };
  EXPECT_EQ(error_of([&] { test.convert(); }).code(), ErrorCode::kCancelled);
  EXPECT_THAT(names_in(test.temp.path()), UnorderedElementsAre("hf", "backbone.pt"));
}

/// Converts in a process that is killed as soon as `bytes` are written. True when it was.
bool convert_until_killed(TestExport& test, std::uint64_t bytes) {
  test.options.progress = [bytes](std::uint64_t done, std::uint64_t) {
    if (done >= bytes) std::raise(SIGKILL);
  };
  test.write();
  const pid_t child = ::fork();
  if (child == 0) {
    convert_modelopt_fp8(test.options);
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

TEST(ModelOptFp8, KilledItLeavesTheOldResultAlone) {
  for (const std::uint64_t bytes : {1, 8, 30, 40}) {
    TestExport test;
    test.temp.write("out/config.json", "old");
    test.temp.write("out/model.safetensors", "old weights");
    test.options.overwrite = true;
    ASSERT_TRUE(convert_until_killed(test, bytes)) << bytes;
    EXPECT_THAT(names_in(test.options.output_dir),
                UnorderedElementsAre("config.json", "model.safetensors"));
    EXPECT_EQ(read_text_file(test.options.output_dir / "model.safetensors", 99), "old weights");
    test.options.progress = {};  // and the next attempt succeeds
    EXPECT_EQ(convert_modelopt_fp8(test.options).quantized_weights, 2U);
  }
}

TEST(ModelOptFp8, KilledItLeavesNoFolderUnderTheName) {
  TestExport test;
  ASSERT_TRUE(convert_until_killed(test, 30));
  EXPECT_THAT(names_in(test.temp.path()), Not(testing::Contains("out")));
}

struct BadInput {
  const char* name;
  std::function<void(TestExport&)> spoil;
  ErrorCode code;
  std::vector<const char*> message;
};
void PrintTo(const BadInput& row, std::ostream* out) { *out << row.name; }

class ModelOptFp8Refuses : public testing::TestWithParam<BadInput> {};

TEST_P(ModelOptFp8Refuses, BeforeItWrites) {
  TestExport test;
  test.write();
  GetParam().spoil(test);
  const Error error = error_of([&] { convert_modelopt_fp8(test.options); });
  EXPECT_EQ(error.code(), GetParam().code) << error.what();
  for (const char* part : GetParam().message) EXPECT_THAT(error.what(), HasSubstr(part));
  for (const std::string& name : names_in(test.temp.path())) {
    EXPECT_THAT(name, Not(HasSubstr(".tmp-")));
  }
  EXPECT_TRUE(fs::exists(test.temp.path() / "hf/model.safetensors"));
}

std::function<void(TestExport&)> with_backbone(const TorchState& state) {
  return [state](TestExport& test) { test.temp.write("backbone.pt", state.file()); };
}
std::function<void(TestExport&)> with_output(const std::string& name) {
  return [name](TestExport& test) {
    test.options.output_dir = test.temp.path() / name;
    test.options.overwrite = true;
  };
}
std::function<void(TestExport&)> with_config(const std::string& text) {
  return [text](TestExport& test) { test.temp.write("hf/config.json", text); };
}
std::function<void(TestExport&)> with_tensor(const std::string& name, const Tensor& tensor) {
  return [=](TestExport& test) {
    test.tensors[name] = tensor;
    test.write();
  };
}

using enum ErrorCode;

INSTANTIATE_TEST_SUITE_P(
    Output, ModelOptFp8Refuses,
    Values(BadInput{"IsTheSource", with_output("hf"), kInvalidArgument, {"overlap"}},
           BadInput{"InTheSource", with_output("hf/new/out"), kInvalidArgument, {"overlap"}},
           BadInput{"HoldsTheSource", with_output(""), kInvalidArgument, {"overlap"}},
           BadInput{"IsTheSourceByALink",
                    [](TestExport& test) {
                      fs::create_symlink("hf", test.temp.path() / "link");
                      with_output("link/sub/..")(test);
                    },
                    kInvalidArgument,
                    {"overlap"}},
           BadInput{"Exists",
                    [](TestExport& test) { fs::create_directory(test.options.output_dir); },
                    kInvalidArgument,
                    {"exists", "--overwrite"}},
           BadInput{"IsAFile",
                    [](TestExport& test) { test.temp.write("out", ""); },
                    kInvalidArgument,
                    {"is a file"}},
           BadInput{"IsNoCheckpoint",
                    [](TestExport& test) {
                      test.temp.write("out/thesis.tex", "");
                      test.options.overwrite = true;
                    },
                    kInvalidArgument,
                    {"holds no config.json"}},
           BadInput{"IsEmpty",
                    [](TestExport& test) { test.options.output_dir.clear(); },
                    kInvalidArgument,
                    {"--output-dir"}}),
    [](const auto& row) { return std::string(row.param.name); });

INSTANTIATE_TEST_SUITE_P(
    Options, ModelOptFp8Refuses,
    Values(BadInput{"ModelType",
                    [](TestExport& test) { test.options.model_type = "flux3"; },
                    kInvalidArgument,
                    {"'flux3'", "auto, flux1, flux2, none"}},
           BadInput{"Pattern",
                    [](TestExport& test) { test.options.keep_bf16_patterns = {"a(b"}; },
                    kInvalidArgument,
                    {"'a(b'", "closing parenthesis", "at character 3"}},
           BadInput{"EndlessPattern",
                    [](TestExport& test) {
                      test.options.keep_bf16_patterns = {"^(([a-z]+)*)*[0-9]$"};
                      with_tensor(std::string(60, 'x') + ".weight", floats({1, 1}, {1}))(test);
                    },
                    kInvalidArgument,
                    {"match limit"}},
           BadInput{"NoBase",
                    [](TestExport& test) { test.options.keep_bf16_patterns = {"^a$"}; },
                    kInvalidArgument,
                    {"1 layers", "--base-transformer-dir"}},
           BadInput{"Maxbound",
                    [](TestExport& test) { test.options.maxbound = 0; },
                    kInvalidArgument,
                    {"--maxbound"}}),
    [](const auto& row) { return std::string(row.param.name); });

INSTANTIATE_TEST_SUITE_P(
    Backbone, ModelOptFp8Refuses,
    Values(BadInput{"NaN", with_backbone(TorchState().amax("a", kNaN, 8).amax("b", 1, 2)),
                    kDataLoss, {"a.weight_quantizer._amax", "nan"}},
           BadInput{"Infinite", with_backbone(TorchState().amax("a", 4, INFINITY).amax("b", 1, 2)),
                    kDataLoss, {"a.input_quantizer._amax", "inf"}},
           BadInput{"Negative", with_backbone(TorchState().amax("a", -4, 8).amax("b", 1, 2)),
                    kDataLoss, {"amax is -4"}},
           BadInput{"Tiny", with_backbone(TorchState().amax("a", 1e-44F, 8).amax("b", 1, 2)),
                    kDataLoss, {"is no float32"}},
           BadInput{"SeveralNumbers",
                    with_backbone(TorchState()
                                      .add("a.weight_quantizer._amax", floats({2}, {1, 2}))
                                      .add("a.input_quantizer._amax", floats({}, {1}))
                                      .amax("b", 1, 2)),
                    kDataLoss,
                    {"expected one number", "[2]"}},
           BadInput{"HalfALayer",
                    with_backbone(TorchState()
                                      .add("a.weight_quantizer._amax", floats({}, {1}))
                                      .amax("b", 1, 2)),
                    kDataLoss,
                    {"'a': the backbone has no input amax"}},
           BadInput{"OtherShape",
                    with_backbone(TorchState()
                                      .amax("a", 4, 8)
                                      .amax("b", 1, 2)
                                      .add("a.weight", floats({1, 4}, {1, -2, 3, 4}))
                                      .add("b.weight", floats({2, 2}, {0.5, 0.25, -1, 1}))),
                    kDataLoss,
                    {"does not belong", "1 layers differ", "'a': its weight is [1, 4]"}},
           BadInput{"OtherValues",
                    with_backbone(TorchState()
                                      .amax("a", 4, 8)
                                      .amax("b", 1, 2)
                                      .add("a.weight", floats({2, 2}, {1, -2, 3, 4}))
                                      .add("b.weight", floats({2, 2}, {0.5, 0.25, -1, 1.5}))),
                    kDataLoss,
                    {"1 layers differ", "'b': its weight has other values"}},
           BadInput{"OtherLayers", with_backbone(TorchState().amax("x", 1, 1)), kDataLoss,
                    {"no layer of", "would be FP8"}},
           BadInput{"TorchScript",
                    [](TestExport& test) {
                      test.options.modelopt_backbone_ckpt =
                          fs::path(DITHER_SOURCE_DIR) / "tests/fuzz/corpus/torch_file_fuzz/torchscript.pt";
                    },
                    kUnsupported,
                    {"torchscript.pt", "TorchScript"}}),
    [](const auto& row) { return std::string(row.param.name); });

INSTANTIATE_TEST_SUITE_P(
    Export, ModelOptFp8Refuses,
    Values(BadInput{"NoConfig",
                    [](TestExport& test) { fs::remove(test.temp.path() / "hf/config.json"); },
                    kNotFound,
                    {"neither config.json nor transformer/config.json"}},
           BadInput{"NotQuantized", with_config("{}"), kDataLoss, {"no 'quantization_config'"}},
           BadInput{"OtherMethod",
                    with_config(R"({"quantization_config": {"quant_method": "gptq"}})"),
                    kUnsupported,
                    {"\"gptq\""}},
           BadInput{"OtherAlgorithm",
                    with_config(R"({"quantization_config":
                                    {"quant_method": "modelopt", "quant_algo": "FP8_PB_WO"}})"),
                    kUnsupported,
                    {"FP8_PB_WO"}},
           BadInput{"IgnoreIsNoList",
                    with_config(R"({"quantization_config": {"quant_method": "modelopt",
                                    "quant_algo": "FP8", "ignore": "a"}})"),
                    kDataLoss,
                    {"'ignore' must be a list"}},
           BadInput{"SeveralShardsNoIndex",
                    [](TestExport& test) { test.temp.write("hf/other.safetensors", ""); },
                    kNotFound,
                    {"2 safetensors files and no index"}},
           BadInput{"IndexLeavesTheFolder",
                    [](TestExport& test) {
                      test.temp.write("hf/model.safetensors.index.json",
                                      R"({"weight_map": {"a": "../model.safetensors"}})");
                    },
                    kDataLoss,
                    {"not a plain file name"}},
           BadInput{"OwnScaleDisagrees",
                    [](TestExport& test) {
                      test.tensors["a.weight_scale"] = floats({1}, {1});
                      with_tensor("a.weight", fp8({2, 2}, {0, 0, 0, 0}))(test);
                    },
                    kDataLoss,
                    {"'a': its weight_scale is 1, but the backbone's amax makes it"}},
           BadInput{"OwnScaleIsNaN",
                    [](TestExport& test) {
                      test.tensors["a.weight_scale"] = floats({1}, {kNaN});
                      with_tensor("a.weight", fp8({2, 2}, {0, 0, 0, 0}))(test);
                    },
                    kDataLoss,
                    {"'a': its weight_scale is nan"}},
           BadInput{"NaNWeight",
                    with_tensor("a.weight", floats({2, 2}, {1, kNaN, 1, 1})),
                    kDataLoss,
                    {"'a.weight': element 1 is nan"}},
           BadInput{"BaseOfAnotherModel",
                    [](TestExport& test) {
                      with_backbone(TorchState()
                                        .amax("a", 4, 8)
                                        .amax("b", 1, 2)
                                        .add("a.weight", floats({2, 2}, {1, -2, 3, 4}))
                                        .add("b.weight", floats({2, 2}, {0.5, 0.25, -1, 1})))(test);
                      test.temp.write("base/config.json", "{}");
                      write_safetensors(test.temp.path() / "base/model.safetensors",
                                        {{"a.weight", floats({2, 2}, {1, -2, 3, 5})},
                                         {"a.bias", floats({2}, {5, 6})}});
                      test.options.base_transformer_dir = test.temp.path() / "base";
                      test.options.keep_bf16_patterns = {"^a$"};
                    },
                    kDataLoss,
                    {"'a.weight'", "is another model's", "other values"}},
           BadInput{"BaseLacksALayer",
                    [](TestExport& test) {
                      test.temp.write("base/config.json", "{}");
                      write_safetensors(test.temp.path() / "base/model.safetensors",
                                        {{"a.weight", floats({1, 2}, {1, 1})}});
                      test.options.base_transformer_dir = test.temp.path() / "base";
                      test.options.keep_bf16_patterns = {"^a$"};
                    },
                    kDataLoss,
                    {"2 problems", "'a.bias': not in", "'a.weight': F32 [1, 2] in"}}),
    [](const auto& row) { return std::string(row.param.name); });

}  // namespace
}  // namespace dither::convert
