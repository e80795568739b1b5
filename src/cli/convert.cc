#include "cli/convert.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <memory>
#include <optional>
#include <string>

#include "base/atomic_file.h"
#include "base/log.h"
#include "cli/byte_progress.h"
#include "cli/interrupt.h"
#include "cli/options.h"
#include "cli/output_names.h"
#include "cli/text_table.h"
#include "convert/modelopt_fp8.h"

namespace dither::cli {
namespace {

constexpr const char* kNotes = R"(Examples:
  dither convert --modelopt-hf-dir export/hf --modelopt-backbone-ckpt export/backbone.pt \
      --base-transformer-dir flux1-dev/transformer --output-dir flux1-fp8
  dither convert ... --model-type none                    every calibrated layer becomes FP8
  dither convert ... --keep-bf16-pattern '^proj_out$'     one more layer stays in 16 bits
  dither convert ... --overwrite --report report.json

Dither reads ModelOpt's exports as they are; SGLang needs this. Layers of the profile (--model-type)
come from --base-transformer-dir in 16 bits. All inputs are checked before anything is written, and
--output-dir appears or is replaced when everything in it is complete.)";

struct ConvertOptions {
  convert::ModelOptFp8Options work;
  std::string modelopt_hf_dir;
  std::string modelopt_backbone_ckpt;
  std::optional<std::string> base_transformer_dir;
  std::string output_dir;
  std::optional<std::string> report;
  bool quiet = false;
};

std::string describe(const convert::ModelOptFp8Report& report) {
  using enum TextTable::Align;
  TextTable table({kRight, kLeft});
  const auto add = [&](auto count, const std::string& what) {
    if (count > 0) table.add({fmt::format("{}", count), what});
  };
  add(report.quantized_weights,
      fmt::format("weights in FP8{}",
                  report.kept_fp8_weights > 0
                      ? fmt::format(", {} of them in the export already", report.kept_fp8_weights)
                      : ""));
  add(report.added_scale_tensors, "scales");
  add(report.bf16_fallback_weights,
      fmt::format("weights in 16 bits from the base (profile {})", report.profile));
  add(report.preserved_ignored_weights, "weights that the export ignores, as they were");
  add(report.uncalibrated.size(), "weights without amax, as they were");
  add(report.copied_tensors, "tensors copied in all");
  add(report.dropped_quantizer_tensors, "leftovers of quantizers dropped");
  add(report.surplus_amax.size(), "layers with an amax that is not used");
  add(report.zero_amax.size(), "amax of 0, scale 1");
  add(report.clamped_values, "weights saturated");
  add(report.added_ignore.size(), "layers added to \"ignore\"");
  return table.to_string();
}

void run_convert(ConvertOptions& options) {
  if (options.quiet) log::set_level(log::level::err);
  convert::ModelOptFp8Options& work = options.work;
  work.modelopt_hf_dir = options.modelopt_hf_dir;
  work.modelopt_backbone_ckpt = options.modelopt_backbone_ckpt;
  if (options.base_transformer_dir) work.base_transformer_dir = *options.base_transformer_dir;
  work.output_dir = options.output_dir;
  if (options.report) check_writable(*options.report);
  install_signal_handlers();
  ByteProgress display(stderr, ::isatty(STDERR_FILENO) != 0);
  work.progress = [&](std::uint64_t done, std::uint64_t total) {
    throw_if_interrupted();
    if (!options.quiet) display.update(done, total);
  };
  const convert::ModelOptFp8Report report = convert::convert_modelopt_fp8(work);
  display.clear();
  if (options.report) write_file(*options.report, convert::to_json(report) + "\n");
  if (!options.quiet) fmt::print(stderr, "{}", describe(report));
  fmt::print("{}\n", options.output_dir);
}

void declare_options(CLI::App& command, ConvertOptions& options) {
  command
      .add_option("--modelopt-hf-dir", options.modelopt_hf_dir,
                  "ModelOpt's export, or the transformer folder in it")
      ->required()
      ->type_name("DIR");
  command
      .add_option("--modelopt-backbone-ckpt", options.modelopt_backbone_ckpt,
                  "backbone.pt (newer: transformer.pt), or its folder")
      ->required()
      ->type_name("PATH");
  add_optional(command, "--base-transformer-dir", options.base_transformer_dir,
               "The transformer before quantization, for layers that stay in 16 bits")
      ->type_name("DIR");
  command.add_option("--output-dir", options.output_dir, "Folder to write")
      ->required()
      ->type_name("DIR");
  command
      .add_option("--model-type", options.work.model_type,
                  "Layers that stay in 16 bits: auto (by class), flux1, flux2, none")
      ->check(one_of(convert::model_types()))
      ->type_name("NAME")
      ->capture_default_str();
  command
      .add_option("--keep-bf16-pattern", options.work.keep_bf16_patterns,
                  "Regular expression: further layers that stay in 16 bits; may be repeated")
      ->type_name("REGEX")
      ->allow_extra_args(false);
  command.add_option("--maxbound", options.work.maxbound, "scale = amax / MAXBOUND")
      ->type_name("X")
      ->capture_default_str();
  add_switch(command, "--overwrite", options.work.overwrite, "Replace --output-dir");
  add_optional(command, "--report", options.report, "Write counts and layer names as JSON")
      ->type_name("FILE");
  add_switch(command, "--quiet", options.quiet, "Only the folder's name and errors");
}

}  // namespace

void add_convert(CLI::App& app) {
  CLI::App* const command =
      app.add_subcommand("convert", "Make an FP8 transformer of a ModelOpt export");
  const auto options = std::make_shared<ConvertOptions>();
  declare_options(*command, *options);
  command->footer(kNotes);
  command->callback([options] { run_convert(*options); });
}

}  // namespace dither::cli
