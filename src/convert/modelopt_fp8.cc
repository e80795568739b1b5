#include "convert/modelopt_fp8.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <system_error>

#include "base/atomic_folder.h"
#include "base/error.h"
#include "base/log.h"
#include "convert/fp8_plan.h"
#include "convert/fp8_writer.h"
#include "convert/python_json.h"

namespace dither::convert {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void refuse(const std::string& what) {
  throw Error(ErrorCode::kInvalidArgument, what);
}

/// True when `path` is `folder` or lies in it, whatever links or mounts lead there.
bool lies_in(fs::path path, const fs::path& folder) {
  std::error_code failed;
  for (;; path = path.parent_path()) {
    if (fs::equivalent(path, folder, failed) && !failed) return true;
    if (path == path.parent_path()) return false;
  }
}

/// Where the result goes. Replacing it must not touch an input, and deletes only checkpoints.
fs::path check_output(const ModelOptFp8Options& options, const std::vector<fs::path>& inputs) {
  if (options.output_dir.empty()) refuse("--output-dir is empty");
  const fs::path output = fs::weakly_canonical(fs::absolute(options.output_dir));
  for (const fs::path& input : inputs) {
    if (lies_in(output, input) || lies_in(input, output)) {
      refuse(
          fmt::format("--output-dir {} and the input {} overlap", output.string(), input.string()));
    }
  }
  if (!fs::exists(output)) return output;
  if (!fs::is_directory(output)) refuse(fmt::format("--output-dir {} is a file", output.string()));
  if (!options.overwrite) {
    refuse(fmt::format("--output-dir {} exists; --overwrite replaces it", output.string()));
  }
  if (!fs::is_empty(output) && !fs::exists(output / "config.json")) {
    refuse(
        fmt::format("--output-dir {} is not replaced: it holds no config.json and may be "
                    "something else than a checkpoint",
                    output.string()));
  }
  return output;
}

const quant::Profile* choose_profile(const std::string& model_type, const nlohmann::json& config) {
  if (model_type == "none") return nullptr;
  if (model_type == "auto") {
    const auto name = config.find("_class_name");
    return name != config.end() && name->is_string()
               ? quant::profile_of_class(name->get_ref<const std::string&>())
               : nullptr;
  }
  if (const quant::Profile* profile = quant::find_profile(model_type)) return profile;
  refuse(fmt::format("--model-type: '{}' is not one of {}", model_type,
                     fmt::join(model_types(), ", ")));
}

void warn_about(const ModelOptFp8Report& report) {
  if (!report.zero_amax.empty()) {
    log::warn("amax is 0, so the scale is 1: {}", fmt::join(report.zero_amax, ", "));
  }
  if (!report.uncalibrated.empty()) {
    log::warn("not ignored, but never calibrated, so left as they are: {}",
              fmt::join(report.uncalibrated, ", "));
  }
  if (report.clamped_values > 0) {
    log::warn("{} weights beyond their amax were saturated: {}", report.clamped_values,
              fmt::join(report.clamped_layers, ", "));
  }
}

}  // namespace

std::vector<std::string> model_types() {
  std::vector<std::string> names = {"auto"};
  for (const quant::Profile& profile : quant::profiles()) names.emplace_back(profile.name);
  names.emplace_back("none");
  return names;
}

ModelOptFp8Report convert_modelopt_fp8(const ModelOptFp8Options& options) try {
  if (!std::isfinite(options.maxbound) || options.maxbound <= 0) {
    refuse(fmt::format("--maxbound: {} is not a number > 0", options.maxbound));
  }
  const TransformerFolder exported = TransformerFolder::open(options.modelopt_hf_dir);
  Fp8Inputs inputs{.exported = exported,
                   .calibration = Calibration(options.modelopt_backbone_ckpt, options.maxbound),
                   .profile = choose_profile(options.model_type, exported.config)};
  for (const std::string& pattern : options.keep_bf16_patterns) {
    inputs.keep_bf16.emplace_back(pattern);
  }
  std::vector<fs::path> paths = {exported.path, fs::canonical(inputs.calibration.description())};
  std::optional<TransformerFolder> base;
  if (options.base_transformer_dir) {
    base = TransformerFolder::open(*options.base_transformer_dir);
    inputs.base = &*base;
    paths.push_back(base->path);
  }
  const fs::path output = check_output(options, paths);
  Fp8Plan plan = plan_modelopt_fp8(inputs);
  check_space(output, plan.report.total_size);

  AtomicFolder folder(output);
  write_modelopt_fp8(plan, inputs, folder.temporary(), options.progress);
  folder.commit(options.overwrite ? AtomicFolder::Existing::kReplace
                                  : AtomicFolder::Existing::kKeep);
  warn_about(plan.report);
  return std::move(plan.report);
} catch (const fs::filesystem_error& error) {
  throw Error(ErrorCode::kIo, error.what());
}

std::string to_json(const ModelOptFp8Report& report) {
  return python_json_indented({
      {"added_ignore", report.added_ignore},
      {"added_scale_tensors", report.added_scale_tensors},
      {"bf16_fallback_weights", report.bf16_fallback_weights},
      {"clamped_layers", report.clamped_layers},
      {"clamped_values", report.clamped_values},
      {"class_name", report.class_name},
      {"copied_tensors", report.copied_tensors},
      {"dropped_quantizer_tensors", report.dropped_quantizer_tensors},
      {"kept_fp8_weights", report.kept_fp8_weights},
      {"output_shards", report.output_shards},
      {"preserved_ignored_weights", report.preserved_ignored_weights},
      {"profile", report.profile},
      {"quantized_weights", report.quantized_weights},
      {"surplus_amax", report.surplus_amax},
      {"total_size", report.total_size},
      {"uncalibrated", report.uncalibrated},
      {"zero_amax", report.zero_amax},
  });
}

}  // namespace dither::convert
