#include "pipelines/perf_dump.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace dither {
namespace {

using ::testing::Ne;
using ::testing::SizeIs;

TEST(PerfDump, HasTheDocumentedKeysInOrder) {
  GenerateResult result;
  result.request.prompt = "a \"red\" apple";
  result.stages = {{"TextEncodingStage", 1.5}, {"DenoisingStage", 20.25}};
  result.denoise_steps_ms = {10.25, 10};
  result.total_duration_ms = 22;
  result.memory_before = {.resident_bytes = 1 << 20, .peak_resident_bytes = 3 << 19};
  result.memory_after = {.resident_bytes = (1 << 20) + 12345, .peak_resident_bytes = 2 << 20};
  const std::chrono::system_clock::time_point time(
      std::chrono::microseconds(1'767'225'600'000'042));
  const std::string dump = perf_dump_json(
      {.request_id = "r1", .tag = "cli_generate", .model = "models/x", .timestamp = time}, result);

  auto json = nlohmann::ordered_json::parse(dump);
  EXPECT_THAT(json["commit_hash"].get<std::string>(), Ne(""));
  json["commit_hash"] = "N/A";
  EXPECT_EQ(json.dump(2), R"({
  "timestamp": "2026-01-01T00:00:00.000042+00:00",
  "request_id": "r1",
  "commit_hash": "N/A",
  "tag": "cli_generate",
  "total_duration_ms": 22.0,
  "steps": [
    {
      "name": "TextEncodingStage",
      "duration_ms": 1.5
    },
    {
      "name": "DenoisingStage",
      "duration_ms": 20.25
    }
  ],
  "denoise_steps_ms": [
    {
      "step": 0,
      "duration_ms": 10.25
    },
    {
      "step": 1,
      "duration_ms": 10.0
    }
  ],
  "memory_checkpoints": {
    "before_forward": {
      "allocated_mb": 1.0,
      "reserved_mb": 1.0,
      "peak_allocated_mb": 1.5,
      "peak_reserved_mb": 1.5
    },
    "after_forward": {
      "allocated_mb": 1.01,
      "reserved_mb": 1.01,
      "peak_allocated_mb": 2.0,
      "peak_reserved_mb": 2.0
    }
  },
  "meta": {
    "prompt": [
      "a \"red\" apple"
    ],
    "model": "models/x"
  }
})");
}

TEST(PerfDump, RequestIdsDiffer) {
  EXPECT_THAT(make_request_id(), SizeIs(32));
  EXPECT_NE(make_request_id(), make_request_id());
}

}  // namespace
}  // namespace dither
