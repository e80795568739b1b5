#pragma once

#include <chrono>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "pipelines/pipeline.h"

namespace dither {

/// What a performance dump says beside the result itself.
struct PerfDumpContext {
  std::string request_id;
  std::string tag = "cli_generate";
  std::string model;  ///< as the user named it
  std::chrono::system_clock::time_point timestamp;
  /// Goes under the key "precision", which SGLang's documents do not have.
  std::span<const ComponentAttestation> attestation = {};
};

/// 32 random hexadecimal digits.
std::string make_request_id();

/// SGLang's `--perf-dump-path` document: the same keys in the same order, indent 2, so that its
/// comparison tools read it. Memory is in MiB with 2 decimals.
std::string perf_dump_json(const PerfDumpContext& context, const GenerateResult& result);

/// perf_dump_json() as a file that appears complete. Throws kNotFound, kIo, kResourceExhausted.
void write_perf_dump(const std::filesystem::path& path, const PerfDumpContext& context,
                     const GenerateResult& result);

}  // namespace dither
