#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "cli/model_options.h"
#include "cli/output_names.h"
#include "cli/request_options.h"
#include "pipelines/png_parameters.h"

namespace dither::cli {

/// The command line of `dither generate`. An empty field was not given.
struct GenerateOptions {
  ModelOptions model;
  RequestOptions request;
  OutputNames::Options output;
  std::optional<std::string> prompt;
  std::optional<std::string> prompt_file;
  std::optional<std::string> from;
  std::optional<std::string> config;
  std::optional<std::string> save_trajectory;
  std::optional<std::string> perf_dump_path;
  std::optional<int> grid;
  bool quiet = false;
};

void declare_generate_options(CLI::App& app, GenerateOptions& options);

/// What to draw, one request per prompt. `from` are the parameters of --from: the start, which
/// other options change. Throws kInvalidArgument (no prompt, or two sources of it) and like
/// read_prompts().
std::vector<GenerateRequest> make_requests(const GenerateOptions& options,
                                           const std::optional<PictureParameters>& from);

/// The model that drew `from`, unless the command line names another.
LoadOptions make_load_options(ModelOptions options, const std::optional<PictureParameters>& from);

}  // namespace dither::cli
