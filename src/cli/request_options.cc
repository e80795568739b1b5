#include "cli/request_options.h"

#include <limits>

#include "base/error.h"
#include "cli/options.h"
#include "media/image_file.h"

namespace dither::cli {
namespace {

constexpr std::uint64_t kMaxInt = std::numeric_limits<int>::max();

}  // namespace

void add_request_options(CLI::App& app, RequestOptions& options) {
  const auto add_int = [&](const char* name, std::optional<int>& target, const char* description) {
    return add_optional(app, name, target, description)
        ->check(whole_number(0, kMaxInt))
        ->type_name("N")
        ->group("Picture");
  };
  const auto add_decimal = [&](const char* name, std::optional<double>& target,
                               const char* description) {
    return add_optional(app, name, target, description)
        ->check(decimal_number())
        ->type_name("X")
        ->group("Picture");
  };
  add_optional(app, "--negative-prompt", options.negative_prompt,
               "What to stay away from; needs classifier-free guidance")
      ->type_name("TEXT")
      ->group("Picture");
  add_int("--width", options.width, "Pixels; by default the model's own size");
  add_int("--height", options.height, "Pixels");
  add_int("--num-inference-steps", options.num_inference_steps, "Denoising steps");
  add_decimal("--guidance-scale", options.guidance_scale,
              "Embedded guidance; of FLUX.2 klein base and Wan classifier-free");
  add_decimal("--true-cfg-scale", options.true_cfg_scale,
              "Classifier-free guidance against the negative prompt; above 1 doubles the work");
  add_int("--max-sequence-length", options.max_sequence_length,
          "Tokens of the prompt that are read");
  add_optional(app, "--seed", options.seed, "Seed of the first picture, the next one has seed + 1")
      ->check(whole_number(0, std::numeric_limits<std::uint64_t>::max()))
      ->type_name("N")
      ->group("Picture");
  add_int("--num-outputs-per-prompt", options.num_outputs_per_prompt, "Pictures of each prompt")
      ->check(whole_number(1, 10'000));
  app.add_option("--image-path", options.image_paths,
                 "Picture to follow or edit (FLUX.2, repeatable), or a video's first frame (Wan): "
                 "PNG, JPEG, WebP")
      ->type_name("FILE")
      ->allow_extra_args(false)
      ->group("Picture");
  add_optional(app, "--reference-limit", options.reference_limit,
               "Pixels that a reference keeps: diffusers (1024^2), or bfl (one alone 2024^2)")
      ->check(one_of({"diffusers", "bfl"}))
      ->type_name("NAME")
      ->group("Picture");
  add_int("--num-frames", options.num_frames, "Frames of a video, 4k+1")->group("Video");
  add_int("--fps", options.fps, "Frames a second")->group("Video");
  add_decimal("--guidance-scale-2", options.guidance_scale_2,
              "Guidance in the steps of the low-noise transformer; by default as --guidance-scale")
      ->group("Video");
  add_decimal("--flow-shift", options.flow_shift,
              "Shift of the noise levels: the higher, the more steps at high noise")
      ->group("Video");
  add_optional(app, "--noise", options.noise,
               "Generator of torch that is reproduced: torch-cpu, torch-cpu-legacy, torch-cuda")
      ->check(one_of({"torch-cpu", "torch-cpu-legacy", "torch-cuda"}))
      ->type_name("NAME")
      ->group("Picture");
}

void apply_request_options(const RequestOptions& options, GenerateRequest& request) {
  const auto replace = [](auto& field, const auto& given) {
    if (given) field = given;
  };
  replace(request.negative_prompt, options.negative_prompt);
  replace(request.width, options.width);
  replace(request.height, options.height);
  replace(request.num_inference_steps, options.num_inference_steps);
  replace(request.guidance_scale, options.guidance_scale);
  replace(request.true_cfg_scale, options.true_cfg_scale);
  replace(request.max_sequence_length, options.max_sequence_length);
  replace(request.num_frames, options.num_frames);
  replace(request.fps, options.fps);
  replace(request.guidance_scale_2, options.guidance_scale_2);
  replace(request.flow_shift, options.flow_shift);
  request.seed = options.seed.value_or(request.seed);
  request.num_outputs_per_prompt =
      options.num_outputs_per_prompt.value_or(request.num_outputs_per_prompt);
  if (!options.image_paths.empty()) {
    request.references.clear();
    for (const std::string& path : options.image_paths) {
      request.references.push_back({.path = path, .image = {}});
    }
  }
  for (ReferenceImage& reference : request.references) reference.image = read_image(reference.path);
  if (options.reference_limit) {
    request.reference_limit = parse_reference_limit(*options.reference_limit).value();
  }
  if (options.noise) request.noise = parse_noise_source(*options.noise).value();
}

}  // namespace dither::cli
