#include "dither/dither.h"

#include <array>
#include <exception>
#include <new>
#include <utility>

#include "base/error.h"
#include "base/version.h"
#include "media/image_file.h"
#include "media/png.h"
#include "runtime/load.h"

namespace dither::api {
namespace {

/// Runs `work`; whatever it throws leaves as api::Error.
template <typename Work>
auto translate_errors(const Work& work) {
  try {
    return work();
  } catch (const dither::Error& error) {
    throw Error(std::string(error_code_name(error.code())), error.what());
  } catch (const std::bad_alloc&) {
    throw Error(std::string(error_code_name(ErrorCode::kResourceExhausted)), "out of memory");
  }
}

template <typename Choice, std::size_t N>
Choice choose(const char* option, const std::string& name,
              const std::array<std::pair<std::string_view, Choice>, N>& choices) {
  std::string known;
  for (const auto& [spelling, choice] : choices) {
    if (spelling == name) return choice;
    known += (known.empty() ? "" : ", ") + std::string(spelling);
  }
  throw dither::Error(ErrorCode::kInvalidArgument,
                      std::string(option) + " '" + name + "': must be one of " + known);
}

std::optional<DType> parse_compute_dtype(const std::string& name) {
  using Row = std::pair<std::string_view, std::optional<DType>>;
  return choose(
      "dtype", name,
      std::array{Row{"auto", std::nullopt}, Row{"bf16", DType::kBF16}, Row{"f32", DType::kF32}});
}

DeviceChoice parse_device(const std::string& name) {
  using Row = std::pair<std::string_view, DeviceChoice>;
  return choose("device", name,
                std::array{Row{"auto", DeviceChoice::kAuto}, Row{"cpu", DeviceChoice::kCpu},
                           Row{"cuda", DeviceChoice::kCuda}});
}

dither::LoadOptions to_internal(const LoadOptions& options) {
  return {.model_path = options.model_path,
          .component_paths = {options.component_paths.begin(), options.component_paths.end()},
          .dtype = parse_compute_dtype(options.dtype),
          .device = parse_device(options.device),
          .threads = options.threads};
}

GenerateRequest to_internal(const GenerateOptions& options) {
  GenerateRequest request;
  request.prompt = options.prompt;
  request.negative_prompt = options.negative_prompt;
  request.width = options.width;
  request.height = options.height;
  request.num_inference_steps = options.num_inference_steps;
  request.guidance_scale = options.guidance_scale;
  request.true_cfg_scale = options.true_cfg_scale;
  request.max_sequence_length = options.max_sequence_length;
  request.seed = options.seed;
  request.num_outputs_per_prompt = options.num_outputs_per_prompt;
  for (const std::string& path : options.image_paths) {
    request.references.push_back({.path = path, .image = read_image(path)});
  }
  return request;
}

dither::ProgressCallback to_internal(const ProgressCallback& progress) {
  if (!progress) return {};
  return [&progress](const dither::Progress& done) {
    return progress({.image = done.image,
                     .images = done.images,
                     .step = done.step,
                     .steps = done.steps,
                     .step_ms = done.step_ms});
  };
}

}  // namespace

Error::Error(std::string code, const std::string& message)
    : std::runtime_error(message), code_(std::move(code)) {}

Error::~Error() = default;

void Image::save_png(const std::string& path) const {
  translate_errors([&] {
    write_png(path, {.width = width, .height = height, .channels = 3, .pixels = pixels});
  });
}

struct Pipeline::Impl {
  LoadedPipeline loaded;
};

Pipeline::Pipeline(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Pipeline::Pipeline(Pipeline&&) noexcept = default;
Pipeline& Pipeline::operator=(Pipeline&&) noexcept = default;
Pipeline::~Pipeline() = default;

Pipeline Pipeline::load(const LoadOptions& options) {
  return translate_errors(
      [&] { return Pipeline(std::make_unique<Impl>(Impl{load_pipeline(to_internal(options))})); });
}

std::vector<Image> Pipeline::generate(const GenerateOptions& options,
                                      const ProgressCallback& progress) {
  return translate_errors([&] {
    GenerateResult result =
        impl_->loaded.pipeline->generate(to_internal(options), to_internal(progress));
    std::vector<Image> images;
    for (GeneratedOutput& drawn : result.outputs) {
      for (dither::Image& frame : drawn.frames) {
        images.push_back({.width = frame.width,
                          .height = frame.height,
                          .pixels = std::move(frame.pixels),
                          .seed = drawn.seed});
      }
    }
    return images;
  });
}

std::string version() { return std::string(dither::version()); }

}  // namespace dither::api
