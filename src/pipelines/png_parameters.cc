#include "pipelines/png_parameters.h"

#include <fmt/format.h>

#include <charconv>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.h"
#include "io/json_config.h"
#include "io/untrusted_name.h"

namespace dither {
namespace {

using Json = nlohmann::ordered_json;

/// A seed uses all 64 bits, which JSON readers that keep numbers as doubles would round: as text.
std::uint64_t parse_seed(const std::string& text, std::string_view path) {
  std::uint64_t seed = 0;
  const char* end = text.data() + text.size();
  const auto [stop, failed] = std::from_chars(text.data(), end, seed);
  if (failed != std::errc{} || stop != end || text.empty()) {
    throw Error(ErrorCode::kDataLoss,
                fmt::format("{}: 'seed' must be an integer of 64 bits, is {}", path, quote(text)));
  }
  return seed;
}

template <typename T>
T known(std::optional<T> value, std::string_view path, std::string_view key,
        std::string_view name) {
  if (value) return *value;
  throw Error(ErrorCode::kUnsupported,
              fmt::format("{}: {} {} is not known to this version", path, key, quote(name)));
}

std::optional<VideoParameters> parse_video(const JsonConfig& json) {
  const auto video = json.find<JsonConfig>("video");
  if (!video) return std::nullopt;
  return VideoParameters{.num_frames = video->get<int>("num_frames"),
                         .fps = video->get<int>("fps"),
                         .guidance_scale_2 = video->find<double>("guidance_scale_2"),
                         .flow_shift = video->get<double>("flow_shift")};
}

Json to_json(const VideoParameters& video) {
  Json json = {{"num_frames", video.num_frames}, {"fps", video.fps}};
  if (video.guidance_scale_2) json["guidance_scale_2"] = *video.guidance_scale_2;
  json["flow_shift"] = video.flow_shift;
  return json;
}

ResolvedRequest parse_request(const JsonConfig& json, std::string_view path) {
  const auto limit = json.get<std::string>("reference_limit", "diffusers");
  return {.prompt = json.get<std::string>("prompt"),
          .negative_prompt = json.get<std::string>("negative_prompt"),
          .width = json.get<int>("width"),
          .height = json.get<int>("height"),
          .num_inference_steps = json.get<int>("num_inference_steps"),
          .guidance_scale = json.get<double>("guidance_scale"),
          .true_cfg_scale = json.get<double>("true_cfg_scale"),
          .max_sequence_length = json.get<int>("max_sequence_length"),
          .image_paths = json.get<std::vector<std::string>>("image_paths", {}),
          .reference_limit = known(parse_reference_limit(limit), path, "reference_limit", limit),
          .video = parse_video(json)};
}

}  // namespace

std::string to_json(const PictureParameters& parameters) {
  const ResolvedRequest& request = parameters.request;
  Json json = {{"dither_version", parameters.dither_version}, {"model", parameters.model}};
  if (parameters.model_path) json["model_path"] = *parameters.model_path;
  if (!parameters.component_paths.empty()) json["component_paths"] = parameters.component_paths;
  if (parameters.load_format != LoadFormat::kAuto) {
    json["load_format"] = load_format_name(parameters.load_format);
  }
  json["pipeline"] = parameters.pipeline_class;
  json["fingerprint"] = parameters.fingerprint;
  json["dtype"] = dtype_name(parameters.dtype);
  json["device"] = parameters.device;
  if (parameters.attention.fp8) {
    json["attention_precision"] = attention_schedule_name(parameters.attention);
  }
  if (parameters.policy.keep_fp8) json["weight_only_fp8"] = "keep";
  if (parameters.policy.nvfp4_as_fp8) json["nvfp4_as"] = "fp8";
  if (parameters.fp8_text_encoder) json["text_encoder_precision"] = "fp8";
  if (parameters.vae != VaePrecision::kAuto) {
    json["vae_precision"] = vae_precision_name(parameters.vae);
  }
  if (parameters.vae_tiling) json["vae_tiling"] = true;
  json["noise"] = noise_source_name(parameters.noise);
  json["seed"] = std::to_string(parameters.seed);
  json["prompt"] = request.prompt;
  json["negative_prompt"] = request.negative_prompt;
  json["width"] = request.width;
  json["height"] = request.height;
  json["num_inference_steps"] = request.num_inference_steps;
  json["guidance_scale"] = request.guidance_scale;
  json["true_cfg_scale"] = request.true_cfg_scale;
  json["max_sequence_length"] = request.max_sequence_length;
  if (!request.image_paths.empty()) json["image_paths"] = request.image_paths;
  if (request.reference_limit != ReferenceLimit::kDiffusers) {
    json["reference_limit"] = reference_limit_name(request.reference_limit);
  }
  if (request.video) json["video"] = to_json(*request.video);
  // A path need not be UTF-8; JSON and PNG text must.
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

PictureParameters parse_picture_parameters(std::string_view json, std::string_view path) {
  const JsonConfig document = JsonConfig::parse(json, std::string(path));
  PictureParameters parameters;
  parameters.dither_version = document.get<std::string>("dither_version");
  parameters.model = document.get<std::string>("model");
  parameters.model_path = document.find<std::string>("model_path");
  if (const auto paths = document.find<JsonConfig>("component_paths")) {
    for (const std::string& name : paths->keys()) {
      parameters.component_paths.emplace(name, paths->get<std::string>(name));
    }
  }
  const auto format = document.get<std::string>("load_format", "auto");
  parameters.load_format = known(parse_load_format(format), path, "load_format", format);
  parameters.pipeline_class = document.get<std::string>("pipeline");
  parameters.fingerprint = document.get<std::string>("fingerprint");
  const auto dtype = document.get<std::string>("dtype");
  parameters.dtype = known(parse_dtype(dtype), path, "dtype", dtype);
  parameters.device = document.get<std::string>("device");
  const auto attention = document.get<std::string>("attention_precision", "bf16");
  parameters.attention =
      known(parse_attention_schedule(attention), path, "attention_precision", attention);
  const auto is = [&](const char* key, const char* usual, const char* other) {
    const auto value = document.get<std::string>(key, usual);
    const bool chosen = value == other;
    return known(chosen || value == usual ? std::optional(chosen) : std::nullopt, path, key, value);
  };
  parameters.policy.keep_fp8 = is("weight_only_fp8", "expand", "keep");
  parameters.policy.nvfp4_as_fp8 = is("nvfp4_as", "bf16", "fp8");
  parameters.fp8_text_encoder = is("text_encoder_precision", "bf16", "fp8");
  const auto vae = document.get<std::string>("vae_precision", "auto");
  parameters.vae = known(parse_vae_precision(vae), path, "vae_precision", vae);
  parameters.vae_tiling = document.get<bool>("vae_tiling", false);
  const auto noise = document.get<std::string>("noise");
  parameters.noise = known(parse_noise_source(noise), path, "noise", noise);
  parameters.seed = parse_seed(document.get<std::string>("seed"), path);
  parameters.request = parse_request(document, path);
  return parameters;
}

std::string describe(const PictureParameters& parameters) {
  const ResolvedRequest& request = parameters.request;
  std::string text = request.prompt + "\n";
  if (!request.negative_prompt.empty()) {
    text += "Negative prompt: " + request.negative_prompt + "\n";
  }
  text += fmt::format("Steps: {}, Sampler: {}, Guidance: {}, ", request.num_inference_steps,
                      request.video ? "UniPC" : "Euler", request.guidance_scale);
  if (const auto& video = request.video) {
    if (video->guidance_scale_2) text += fmt::format("Guidance 2: {}, ", *video->guidance_scale_2);
    text += fmt::format("Shift: {}, Frames: {}, FPS: {}, ", video->flow_shift, video->num_frames,
                        video->fps);
  }
  if (parameters.load_format == LoadFormat::kDummy) text += "Weights: dummy, ";
  if (request.true_cfg_scale != 1) text += fmt::format("CFG scale: {}, ", request.true_cfg_scale);
  text += fmt::format("Seed: {}, Size: {}x{}, Model: {}, Model hash: {}, Version: dither {}",
                      parameters.seed, request.width, request.height, parameters.model,
                      parameters.fingerprint, parameters.dither_version);
  return text;
}

GenerateRequest to_request(const PictureParameters& parameters) {
  const ResolvedRequest& resolved = parameters.request;
  GenerateRequest request;
  request.prompt = resolved.prompt;
  if (resolved.true_cfg_scale != 1 || !resolved.negative_prompt.empty()) {
    request.negative_prompt = resolved.negative_prompt;
  }
  request.width = resolved.width;
  request.height = resolved.height;
  request.num_inference_steps = resolved.num_inference_steps;
  request.guidance_scale = resolved.guidance_scale;
  request.true_cfg_scale = resolved.true_cfg_scale;
  request.max_sequence_length = resolved.max_sequence_length;
  if (const auto& video = resolved.video) {
    request.num_frames = video->num_frames;
    request.fps = video->fps;
    request.guidance_scale_2 = video->guidance_scale_2;
    request.flow_shift = video->flow_shift;
  }
  for (const std::string& path : resolved.image_paths) {
    request.references.push_back({.path = path, .image = {}});
  }
  request.reference_limit = resolved.reference_limit;
  request.seed = parameters.seed;
  request.noise = parameters.noise;
  return request;
}

}  // namespace dither
