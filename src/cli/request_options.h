#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "pipelines/pipeline.h"

namespace dither::cli {

/// What to draw, apart from the prompt. An empty field was not given.
struct RequestOptions {
  std::optional<std::string> negative_prompt;
  std::optional<int> width;
  std::optional<int> height;
  std::optional<int> num_inference_steps;
  std::optional<double> guidance_scale;
  std::optional<double> true_cfg_scale;
  std::optional<int> max_sequence_length;
  std::optional<int> num_frames;
  std::optional<int> fps;
  std::optional<double> guidance_scale_2;
  std::optional<double> flow_shift;
  std::optional<std::uint64_t> seed;
  std::optional<int> num_outputs_per_prompt;
  std::optional<std::string> noise;
  std::vector<std::string> image_paths;
  std::optional<std::string> reference_limit;
};

/// Declares one option per field.
void add_request_options(CLI::App& app, RequestOptions& options);

/// Replaces the fields of `request` that were given, and reads the reference pictures, those that
/// the request names already too. Throws as read_image().
void apply_request_options(const RequestOptions& options, GenerateRequest& request);

}  // namespace dither::cli
