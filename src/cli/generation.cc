#include "cli/generation.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <map>
#include <utility>

#include "base/error.h"
#include "base/log.h"
#include "base/version.h"
#include "cli/interrupt.h"
#include "cli/picture_file.h"
#include "media/grid.h"
#include "media/video.h"
#include "pipelines/perf_dump.h"
#include "pipelines/pipeline.h"
#include "pipelines/trajectory_file.h"

namespace dither::cli {
namespace {

std::size_t count_outputs(const std::vector<GenerateRequest>& requests) {
  std::size_t count = 0;
  for (const auto& request : requests) {
    count += static_cast<std::size_t>(request.num_outputs_per_prompt);
  }
  return count;
}

std::map<std::string, std::string> trajectory_metadata(const PictureParameters& picture) {
  return {{"prompt", picture.request.prompt}, {"seed", fmt::format("{}", picture.seed)},
          {"model", picture.model},           {"dtype", std::string(dtype_name(picture.dtype))},
          {"device", picture.device},         {"dither_version", picture.dither_version}};
}

}  // namespace

Generation::Generation(const GenerateOptions& options, std::vector<GenerateRequest> requests,
                       LoadOptions load, std::optional<PictureParameters> from)
    : options_(options),
      requests_(std::move(requests)),
      load_options_(std::move(load)),
      from_(std::move(from)),
      outputs_(count_outputs(requests_)),
      names_(options.output, outputs_, output_kind(load_options_)),
      display_(stderr, isatty(STDERR_FILENO) != 0) {
  if (options_.grid && output_kind(load_options_) == OutputKind::kVideo) {
    throw Error(ErrorCode::kInvalidArgument, "--grid: this model makes videos, not pictures");
  }
  names_.prepare();
  if (options_.save_trajectory) check_writable(numbered(*options_.save_trajectory, 0, outputs_));
  if (options_.perf_dump_path) {
    check_writable(numbered(*options_.perf_dump_path, 0, requests_.size()));
  }
}

/// Refuses what cannot be made, before a weight is read.
void Generation::check_requests() const {
  const RequestResolver resolve = make_resolver(load_options_);
  for (const GenerateRequest& request : requests_) {
    const ResolvedRequest resolved = resolve(request);
    if (resolved.video) {
      check_video(names_.example(), {.width = resolved.width,
                                     .height = resolved.height,
                                     .fps = resolved.video->fps,
                                     .text = {}});
    }
  }
}

void Generation::run() {
  check_requests();
  // All are of one size: they differ in their prompts and seeds.
  const ResolvedRequest first = plan_for(requests_.front(), load_options_);
  loaded_ = load_pipeline(load_options_);
  announce_precision();
  if (from_ && from_->fingerprint != loaded_.pipeline->fingerprint()) {
    warn(fmt::format("{}: drawn with another model than {}; this picture will differ",
                     *options_.from, load_options_.model_path.string()));
  }
  announce_video(first);
  for (std::size_t i = 0; i < requests_.size(); ++i) {
    throw_if_interrupted();
    save(i, loaded_.pipeline->generate(
                requests_[i], [this, i](const Progress& progress) { return show(i, progress); }));
  }
  if (options_.grid) save_grid();
}

/// `progress` counts the pictures of one request; shown are those of all.
bool Generation::show(std::size_t request, Progress progress) {
  progress.image += static_cast<int>(request) * progress.images;
  progress.images = static_cast<int>(outputs_);
  if (!options_.quiet) display_.update(progress);
  return interrupt_signal() == 0;
}

void Generation::save(std::size_t request, const GenerateResult& result) {
  display_.clear();
  throw_if_interrupted();
  for (const std::string& warning : result.warnings) warn(warning);
  for (const GeneratedOutput& drawn : result.outputs) {
    save_output(requests_[request], result, drawn);
  }
  if (!options_.perf_dump_path) return;
  const auto path = numbered(*options_.perf_dump_path, request, requests_.size());
  write_perf_dump(path,
                  {.request_id = make_request_id(),
                   .model = load_options_.model_path.string(),
                   .timestamp = std::chrono::system_clock::now(),
                   .attestation = loaded_.pipeline->attestation()},
                  result);
}

void Generation::save_output(const GenerateRequest& request, const GenerateResult& result,
                             const GeneratedOutput& drawn) {
  const PictureParameters picture = parameters(request, result, drawn);
  const auto path = names_.next(picture.request.prompt, drawn.seed);
  if (result.request.video) {
    write_video(path, drawn.frames, result.request.video->fps, picture);
  } else {
    write_picture(path, drawn.image(), picture);
  }
  announce(path);
  if (drawn.trajectory) {
    save_trajectory(numbered(*options_.save_trajectory, written_, outputs_),
                    {*drawn.trajectory, trajectory_metadata(picture)});
  }
  if (options_.grid) sheet_.push_back(drawn.image());
  ++written_;
}

void Generation::save_grid() {
  constexpr int kPadding = 4;
  const auto path = names_.grid(requests_.front().prompt);
  write_sheet(path, make_grid(sheet_, *options_.grid, kPadding));
  announce(path);
}

PictureParameters Generation::parameters(const GenerateRequest& request,
                                         const GenerateResult& result,
                                         const GeneratedOutput& drawn) const {
  PictureParameters picture;
  picture.dither_version = version();
  picture.model = model_name(load_options_.model_path);
  // A path that the default model happens to have on this machine stays out of the picture.
  picture.model_path =
      from_ && !options_.model.model_path ? from_->model_path : options_.model.model_path;
  for (const auto& [component, path] : load_options_.component_paths) {
    picture.component_paths[component] = path.string();
  }
  picture.load_format = load_options_.pipeline.format;
  picture.pipeline_class = loaded_.pipeline->class_name();
  picture.fingerprint = loaded_.pipeline->fingerprint();
  picture.dtype = loaded_.pipeline->dtype();
  picture.device = loaded_.backend->name();
  picture.attention = load_options_.pipeline.attention;
  picture.policy = load_options_.pipeline.policy;
  picture.fp8_text_encoder = load_options_.pipeline.fp8_text_encoder;
  picture.vae = load_options_.pipeline.vae;
  picture.vae_tiling = load_options_.pipeline.vae_tiling;
  picture.noise = request.noise;
  picture.seed = drawn.seed;
  picture.request = result.request;
  return picture;
}

void Generation::warn(const std::string& message) {
  if (!warnings_.insert(message).second) return;
  display_.clear();
  log::warn("{}", message);
}

/// What ran in which precision, for the components that are quantized, in their files or on load.
void Generation::announce_precision() const {
  if (options_.quiet) return;
  fmt::print(stderr, "{}", to_string(loaded_.pipeline->memory_plan()));
  for (const ComponentAttestation& component : loaded_.pipeline->attestation()) {
    const bool on_load = std::ranges::any_of(component.layers, [](const auto& layer) {
      return layer.executed.weight_error.has_value();
    });
    if (on_load || !component.declared_by.empty()) {
      fmt::print(stderr, "{}\n", summarize(component));
    }
  }
}

/// What decides a video and is not seen in it: the shift above all, of which every source of a
/// model says something else.
void Generation::announce_video(const ResolvedRequest& request) const {
  if (options_.quiet || !request.video) return;
  const VideoParameters& video = *request.video;
  const std::string second =
      video.guidance_scale_2 ? fmt::format(" and {}", *video.guidance_scale_2) : "";
  fmt::print(stderr, "{}x{}, {} frames at {} a second, {} steps, shift {}, guidance {}{}\n",
             request.width, request.height, video.num_frames, video.fps,
             request.num_inference_steps, video.flow_shift, request.guidance_scale, second);
}

void Generation::announce(const std::filesystem::path& path) const {
  if (options_.quiet) return;
  fmt::print("{}\n", path.string());
  std::fflush(stdout);
}

}  // namespace dither::cli
