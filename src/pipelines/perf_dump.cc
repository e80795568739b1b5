#include "pipelines/perf_dump.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <random>

#include "base/atomic_file.h"
#include "base/version.h"

namespace dither {
namespace {

using Json = nlohmann::ordered_json;

double mebibytes(std::uint64_t bytes) {
  return std::round(static_cast<double>(bytes) / (1024.0 * 1024.0) * 100.0) / 100.0;
}

/// The keys are a caching allocator's. A process has no such reserve: allocated equals reserved.
Json memory_checkpoint(const ProcessMemory& memory) {
  const double resident = mebibytes(memory.resident_bytes);
  const double peak = mebibytes(memory.peak_resident_bytes);
  return {{"allocated_mb", resident},
          {"reserved_mb", resident},
          {"peak_allocated_mb", peak},
          {"peak_reserved_mb", peak}};
}

/// "2026-01-31T12:00:00.123456+00:00", as Python's datetime.isoformat() writes it.
std::string iso_utc(std::chrono::system_clock::time_point time) {
  const auto seconds = std::chrono::floor<std::chrono::seconds>(time);
  const auto micros = std::chrono::floor<std::chrono::microseconds>(time - seconds);
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:06}+00:00",
                     fmt::gmtime(std::chrono::system_clock::to_time_t(seconds)), micros.count());
}

}  // namespace

std::string make_request_id() {
  std::random_device random;
  return fmt::format("{:08x}{:08x}{:08x}{:08x}", random(), random(), random(), random());
}

std::string perf_dump_json(const PerfDumpContext& context, const GenerateResult& result) {
  Json steps = Json::array();
  for (const StageTime& stage : result.stages) {
    steps.push_back({{"name", stage.name}, {"duration_ms", stage.duration_ms}});
  }
  Json denoise_steps = Json::array();
  for (const double duration_ms : result.denoise_steps_ms) {
    denoise_steps.push_back({{"step", denoise_steps.size()}, {"duration_ms", duration_ms}});
  }
  Json document = {
      {"timestamp", iso_utc(context.timestamp)},
      {"request_id", context.request_id},
      {"commit_hash", commit_hash()},
      {"tag", context.tag},
      {"total_duration_ms", result.total_duration_ms},
      {"steps", steps},
      {"denoise_steps_ms", denoise_steps},
      {"memory_checkpoints",
       {{"before_forward", memory_checkpoint(result.memory_before)},
        {"after_forward", memory_checkpoint(result.memory_after)}}},
      {"meta", {{"prompt", Json::array({result.request.prompt})}, {"model", context.model}}},
  };
  for (const ComponentAttestation& component : context.attestation) {
    document["precision"].push_back(to_json(component));
  }
  return document.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

void write_perf_dump(const std::filesystem::path& path, const PerfDumpContext& context,
                     const GenerateResult& result) {
  write_file(path, perf_dump_json(context, result));
}

}  // namespace dither
