#include "cli/bench_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <nlohmann/json.hpp>

#include "base/test_util.h"

namespace dither::cli {
namespace {

using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::TestParamInfo;
using ::testing::UnorderedElementsAreArray;
using ::testing::Values;

/// Three runs, steps of `step_ms` but for one slow one each.
BenchResult measured(double step_ms = 80, const std::string& dtype = "bf16") {
  BenchResult result;
  result.model = "models/configs/flux1-dev";
  result.dtype = dtype;
  result.device = "cuda";
  result.device_name = "NVIDIA H200";
  result.load_format = LoadFormat::kDummy;
  result.dummy_quantization = DummyQuantization::kFp8Full;
  result.request.width = 1024;
  result.request.height = 512;
  result.request.num_inference_steps = 3;
  result.load_ms = 4000;
  result.device_ms = 500;
  result.weight_bytes = 21'000'000'000;
  for (const double total : {300.0, 310.0, 290.0}) {
    result.samples.push_back({.total_ms = total,
                              .encode_png_ms = 12,
                              .stages = {{"TextEncoding", 20}, {"Denoising", 3 * step_ms}},
                              .denoise_steps_ms = {2 * step_ms, step_ms, step_ms}});
  }
  result.step_gflop = 74'360;
  result.peak_gflop_per_second = 770'000;
  result.peak_resident_bytes = std::uint64_t{512} << 20;
  result.peak_device_bytes = std::uint64_t{11} << 30;
  return result;
}

BenchResult on_cpu() {
  BenchResult result = measured();
  result.device = result.device_name = "cpu";
  result.load_format = LoadFormat::kAuto;
  result.dummy_quantization = DummyQuantization::kNone;
  result.step_gflop = 1.234;
  result.peak_gflop_per_second = 933;
  result.peak_device_bytes = 0;
  return result;
}

std::vector<BenchFigures> saved(const std::vector<BenchResult>& results) {
  return parse_bench_json(bench_json(results), "saved.json");
}

TEST(BenchTable, NamesWhatWasMeasured) {
  EXPECT_THAT(bench_table({measured()}),
              AllOf(HasSubstr("models/configs/flux1-dev, dummy weights (fp8-full), 1024x512, 3 "
                              "steps, NVIDIA H200, 3 runs\n"),
                    ContainsRegex("denoising step, median +80\\.0 ms\n"),
                    ContainsRegex("prompt to PNG, median +0\\.300 s\n"),
                    ContainsRegex("  TextEncoding +20\\.0 ms\n")));
}

TEST(BenchTable, LargeNumbersAreTeraflops) {
  EXPECT_THAT(bench_table({measured()}),
              AllOf(ContainsRegex("matrix products +74\\.4 TFLOP\n"),
                    ContainsRegex("  rate +929\\.5 TFLOP/s\n"),
                    ContainsRegex("  large matrix product +770\\.0 TFLOP/s\n"),
                    ContainsRegex("peak device memory +11264 MiB\n")));
  EXPECT_THAT(bench_table({on_cpu()}),
              AllOf(ContainsRegex("matrix products +1\\.234 GFLOP\n"),
                    ContainsRegex("  rate +15\\.4 GFLOP/s\n"), Not(HasSubstr("device memory")),
                    Not(HasSubstr("dummy"))));
}

/// 21 GB in 4 s without the half second that the device takes.
TEST(BenchTable, LoadingHasARate) {
  EXPECT_THAT(bench_table({measured()}), ContainsRegex("loading +4\\.000 s\n"
                                                       "  weights +21\\.000 GB\n"
                                                       "  rate +6\\.00 GB/s\n"));
  BenchResult unknown = measured();
  unknown.weight_bytes = 0;
  EXPECT_THAT(bench_table({unknown}), ContainsRegex("  weights *\n  rate *\n"));
}

TEST(BenchTable, RatiosAreNowOverThen) {
  const std::string table = bench_table({measured(80)}, saved({measured(100)}));
  EXPECT_THAT(table,
              AllOf(ContainsRegex(" +bf16 +saved +ratio\n"),
                    ContainsRegex("denoising step, median +80\\.0 ms +100\\.0 ms +0\\.800\n"),
                    ContainsRegex("prompt to PNG, median +0\\.300 s +0\\.300 s +1\\.000\n"),
                    ContainsRegex("peak device memory +11264 MiB +11264 MiB +1\\.000\n"),
                    Not(HasSubstr("another measurement"))));
}

TEST(BenchTable, CounterpartsAreOfTheSameDtype) {
  const std::string table = bench_table({measured(80, "bf16"), measured(160, "f32")},
                                        saved({measured(200, "f32"), measured(100, "bf16")}));
  EXPECT_THAT(table, ContainsRegex("median +80\\.0 ms +100\\.0 ms +0\\.800 +160\\.0 ms +200\\.0 ms "
                                   "+0\\.800\n"));
  // Two saved ones, neither in f16: nothing to compare with.
  EXPECT_THAT(bench_table({measured(80, "f16")}, saved({measured(), measured(100, "f32")})),
              Not(HasSubstr("ratio")));
}

TEST(BenchTable, OtherMeasurementsAreToldApart) {
  EXPECT_THAT(bench_table({measured()}, saved({on_cpu()})),
              AllOf(HasSubstr("saved was another measurement than bf16: load format 'auto' -> "
                              "'dummy'"),
                    HasSubstr("device 'cpu' -> 'NVIDIA H200'"),
                    // What only one of them has is left empty.
                    ContainsRegex("peak device memory +11264 MiB\n")));
}

TEST(BenchJson, ReadsBackAsTheSameFigures) {
  const BenchFigures before = bench_figures(measured());
  const BenchFigures after = saved({measured()}).at(0);
  EXPECT_EQ(setting_difference(before, after), "");
  EXPECT_EQ(after.step_ms, before.step_ms);
  EXPECT_THAT(after.stages_ms, UnorderedElementsAreArray(before.stages_ms));
  EXPECT_EQ(after.step_gflop_per_second, before.step_gflop_per_second);
  EXPECT_EQ(after.runs, 3);
  EXPECT_EQ(after.load_bytes_per_second(), before.load_bytes_per_second());
}

TEST(BenchJson, KeepsTheKeysThatOthersRead) {
  const auto json = nlohmann::json::parse(bench_json({measured()}));
  EXPECT_EQ(json["results"][0]["median_step_ms"], 80);
  EXPECT_EQ(json["results"][0]["samples"][2]["denoise_steps_ms"][0], 160);
  EXPECT_EQ(json["results"][0]["device_name"], "NVIDIA H200");
}

/// Files from before these keys were written.
TEST(BenchJson, OldFilesLackSomeKeys) {
  auto json = nlohmann::json::parse(bench_json({on_cpu()}));
  for (const char* key : {"load_format", "dummy_quantization", "attention_precision", "device_name",
                          "peak_device_bytes", "device_ms", "weight_bytes"}) {
    json["results"][0].erase(key);
  }
  const auto old = parse_bench_json(json.dump(), "old.json");
  EXPECT_EQ(old.at(0).load_format, "auto");
  EXPECT_THAT(bench_table({on_cpu()}, old), Not(HasSubstr("another measurement")));
}

using Spoil = std::function<void(nlohmann::json&)>;

struct BadCase {
  const char* name;
  Spoil spoil;
  const char* says;
};

class BadBenchJson : public ::testing::TestWithParam<BadCase> {};

TEST_P(BadBenchJson, IsRefused) {
  auto json = nlohmann::json::parse(bench_json({measured()}));
  GetParam().spoil(json);
  const Error error = error_of([&] { parse_bench_json(json.dump(), "bad.json"); });
  EXPECT_EQ(error.code(), ErrorCode::kDataLoss);
  EXPECT_THAT(error.what(), AllOf(HasSubstr("bad.json"), HasSubstr(GetParam().says)));
}

INSTANTIATE_TEST_SUITE_P(
    Table, BadBenchJson,
    Values(BadCase{"no_results", [](auto& json) { json.erase("results"); }, "'results'"},
           BadCase{"a_number", [](auto& json) { json["results"] = {1}; }, "object"},
           BadCase{"no_load_time", [](auto& json) { json["results"][0].erase("load_ms"); },
                   "'load_ms'"},
           BadCase{"text", [](auto& json) { json["results"][0]["width"] = "wide"; }, "'width'"},
           BadCase{"no_samples",
                   [](auto& json) { json["results"][0]["samples"] = nlohmann::json::array(); },
                   "no sample"},
           BadCase{"no_steps",
                   [](auto& json) {
                     json["results"][0]["samples"][0]["denoise_steps_ms"] = nlohmann::json::array();
                   },
                   "no step"},
           BadCase{"a_step_of_text",
                   [](auto& json) { json["results"][0]["samples"][0]["denoise_steps_ms"] = {"1"}; },
                   "'denoise_steps_ms'"}),
    [](const TestParamInfo<BadCase>& test) { return test.param.name; });

}  // namespace
}  // namespace dither::cli
