#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>

#include "base/error.h"
#include "report/comparison.h"

namespace dither {
namespace {

using Json = nlohmann::json;  // sorted keys

/// nlohmann writes null for what is not finite; Python, whose readers this is for, does not.
void write(const Json& value, int indent, std::string& out) {
  const std::string margin(static_cast<std::size_t>(indent) + 2, ' ');
  if (value.is_number_float() && !std::isfinite(value.get<double>())) {
    const double number = value.get<double>();
    out += std::isnan(number) ? "NaN" : number > 0 ? "Infinity" : "-Infinity";
  } else if (!value.is_structured() || value.empty()) {
    out += value.dump(-1, ' ', true, Json::error_handler_t::replace);
  } else {
    const bool object = value.is_object();
    const char* separator = object ? "{\n" : "[\n";
    for (const auto& [key, item] : value.items()) {
      out += separator + margin;
      if (object) out += Json(key).dump(-1, ' ', true, Json::error_handler_t::replace) + ": ";
      write(item, indent + 2, out);
      separator = ",\n";
    }
    out += '\n' + margin.substr(2) + (object ? '}' : ']');
  }
}

template <typename T>
Json or_null(const std::optional<T>& value) {
  return value ? Json(*value) : Json();
}

Json similarity_json(const Similarity& s) {
  return {{"cosine_similarity", s.cosine}, {"mae", s.mae}, {"mse", s.mse}, {"rmse", s.rmse},
          {"max_abs", s.max_abs},          {"l2", s.l2}};
}

Json step_json(const StepSimilarity& step) {
  Json json = similarity_json(step.similarity);
  json["step_index"] = step.step;
  json["reference_timestep"] = or_null(step.reference_timestep);
  json["candidate_timestep"] = or_null(step.candidate_timestep);
  return json;
}

Json frame_json(const PictureSimilarity& frame) {
  Json json = similarity_json(frame.pixels);
  json["psnr_db"] = frame.psnr_db;
  return json;
}

Json trajectory_json(const Comparison& comparison) {
  if (comparison.steps.empty()) return {};
  Json per_step = Json::array();
  for (const StepSimilarity& step : comparison.steps) per_step.push_back(step_json(step));
  Json shape = Json::array();
  for (const std::int64_t extent : comparison.trajectory_shape) shape.push_back(extent);
  return {{"trajectory_shape", shape},
          {"num_steps", comparison.steps.size()},
          {"selected_step_index", comparison.selected_step},
          {"selected_step_metrics", step_json(comparison.selected())},
          {"per_step_metrics", per_step}};
}

Json embeddings_json(const Comparison& comparison) {
  Json json = Json::object();
  for (const auto& [name, similarity] : comparison.embeddings) {
    json[name] = similarity_json(similarity);
    json[name]["relative_l2"] = similarity.relative_l2;
  }
  return json;
}

/// `all_frames_metrics` is over the pixels of all frames; a picture is its only frame.
Json output_json(const Comparison& comparison) {
  const std::vector<PictureSimilarity>& frames = comparison.frames;
  if (frames.empty()) return {};
  const std::size_t middle = frames.size() / 2;
  return {{"num_frames", frames.size()},
          {"frame0_metrics", frame_json(frames.front())},
          {"mid_frame_index", middle},
          {"mid_frame_metrics", frame_json(frames[middle])},
          {"all_frames_metrics", frame_json(comparison.all_frames)}};
}

Json options_json(const ComparedSide& side) {
  Json json = Json::object();
  for (const auto& [name, value] : side.options) json[name] = value;
  return json;
}

Json generation_json(const ComparedSide& side, const ComparedRequest& request) {
  const auto& times = side.generation_time_s;
  const auto& peaks = side.peak_memory_mb;
  const auto& durations = side.total_duration_ms;
  if (times.empty() || peaks.empty() || durations.empty()) return {};
  return {{"fp4_gemm_backend", Json()},
          {"warmup_runs", request.warmup_runs},
          {"measure_runs", request.measure_runs},
          {"generation_time_s", times.back()},
          {"avg_generation_time_s", mean(times)},
          {"per_run_generation_time_s", times},
          {"peak_memory_mb", peaks.back()},
          {"max_peak_memory_mb", *std::ranges::max_element(peaks)},
          {"per_run_peak_memory_mb", peaks},
          {"total_duration_ms", durations.back()},
          {"avg_total_duration_ms", mean(durations)},
          {"per_run_total_duration_ms", durations},
          {"output_file_path", or_null(side.output_file_path)}};
}

void add_request(const ComparedRequest& request, Json& json) {
  json["model_path"] = request.model_path;
  json["prompt"] = request.prompt;
  json["seed"] = request.seed;
  json["warmup_runs"] = request.warmup_runs;
  json["measure_runs"] = request.measure_runs;
  json["sampling_kwargs"] = {{"width", request.width},
                             {"height", request.height},
                             {"num_frames", request.num_frames},
                             {"num_inference_steps", request.num_inference_steps},
                             {"guidance_scale", request.guidance_scale},
                             {"guidance_scale_2", or_null(request.guidance_scale_2)}};
}

}  // namespace

std::size_t select_step(int index, std::size_t steps) {
  const auto count = static_cast<std::int64_t>(steps);
  const std::int64_t step = index < 0 ? count + index : index;
  if (step < 0 || step >= count) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("step index {} is outside the {} steps", index, steps));
  }
  return static_cast<std::size_t>(step);
}

std::vector<ShownFrame> shown_frames(std::size_t frames) {
  if (frames == 0) return {};
  if (frames == 1) return {{0, ""}};
  if (frames == 2) return {{0, "first frame"}, {1, "last frame"}};
  return {{0, "first frame"}, {frames / 2, "middle frame"}, {frames - 1, "last frame"}};
}

double mean(const std::vector<double>& values) {
  if (values.empty()) return 0;
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

std::string comparison_json(const Comparison& comparison) {
  Json json;
  for (const char* key : {"model_path", "prompt", "seed", "warmup_runs", "measure_runs",
                          "sampling_kwargs", "reference_generation", "candidate_generation"}) {
    json[key] = Json();  // stays null where nothing was run
  }
  if (comparison.request) {
    add_request(*comparison.request, json);
    json["reference_generation"] = generation_json(comparison.reference, *comparison.request);
    json["candidate_generation"] = generation_json(comparison.candidate, *comparison.request);
  }
  json["server_kwargs"] = {{"reference", options_json(comparison.reference)},
                           {"candidate", options_json(comparison.candidate)}};
  json["backend_overrides"] = {{"reference_fp4_gemm_backend", Json()},
                               {"candidate_fp4_gemm_backend", Json()}};
  json["trajectory_metrics"] = trajectory_json(comparison);
  json["embedding_metrics"] = embeddings_json(comparison);
  json["output_metrics"] = output_json(comparison);
  std::string text;
  write(json, 0, text);
  return text + "\n";
}

}  // namespace dither
