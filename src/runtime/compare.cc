#include "runtime/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <span>
#include <utility>

#include "base/error.h"
#include "base/process_memory.h"
#include "pipelines/trajectory_file.h"
#include "runtime/layer_comparison.h"

namespace dither {
namespace {

/// The least work in which every layer of every transformer runs: a step, or, where two experts
/// divide the steps, one at high and one at low noise.
GenerateRequest shortest(GenerateRequest request, const ResolvedRequest& resolved) {
  constexpr double kSteepShift = 0.01;  // from 999 in one step to 9
  request.num_inference_steps = 1;
  if (resolved.video && resolved.video->guidance_scale_2) {
    request.num_inference_steps = 2;
    request.flow_shift = kSteepShift;
  }
  return request;
}

std::vector<std::pair<std::string, std::string>> describe(const LoadOptions& load, DType dtype) {
  std::vector<std::pair<std::string, std::string>> options = {
      {"model_path", load.model_path.string()}, {"dtype", std::string(dtype_name(dtype))}};
  for (const auto& [component, path] : load.component_paths) {
    options.emplace_back(component + "_path", path.string());
  }
  const auto add = [&](const char* name, const std::optional<std::filesystem::path>& path) {
    if (path) options.emplace_back(name, path->string());
  };
  add("transformer_weights_path", load.pipeline.transformer.weights);
  add("modelopt_backbone", load.pipeline.transformer.modelopt_backbone);
  add("transformer_2_weights_path", load.pipeline.transformer_2.weights);
  add("modelopt_backbone_2", load.pipeline.transformer_2.modelopt_backbone);
  if (const auto weights = weight_precision_name(load.pipeline); weights != "default") {
    options.emplace_back("weight_precision", weights);
  }
  return options;
}

std::vector<std::pair<std::string, Similarity>> compare_embeddings(const Trajectory& reference,
                                                                   const Trajectory& candidate) {
  const auto values = [](const Tensor& tensor) {
    return std::span(tensor.data<float>(), static_cast<std::size_t>(tensor.elements()));
  };
  std::vector<std::pair<std::string, Similarity>> similarities;
  for (const auto& [name, r] : reference.embeddings) {
    for (const auto& [other, c] : candidate.embeddings) {
      const bool comparable = name == other && r.shape() == c.shape() && r.dtype() == DType::kF32 &&
                              c.dtype() == DType::kF32 && r.elements() > 0;
      if (comparable) similarities.emplace_back(name, compare_values(values(r), values(c)));
    }
  }
  return similarities;
}

std::vector<LayerPrecisionRow> precision_rows(const Pipeline& pipeline) {
  std::vector<LayerPrecisionRow> rows;
  for (const ComponentAttestation& component : pipeline.attestation()) {
    for (const LayerAttestation& layer : component.layers) {
      rows.push_back({.component = component.component,
                      .layer = layer.executed.name,
                      .stored = std::string(dtype_name(layer.plan.stored)),
                      .executed = executed_name(layer.executed),
                      .kernel = layer.executed.kernel,
                      .scale_source = layer.plan.scale_source,
                      .fallback = layer.plan.fallback});
    }
  }
  return rows;
}

/// A side that has drawn. The pipeline stays loaded until this goes.
struct Drawn {
  LoadedPipeline loaded;
  ComparedSide side;
  ResolvedRequest request;
  std::vector<Image> frames;
  Trajectory trajectory;
};

Drawn draw(const CompareOptions& options, const LoadOptions& load,
           const ProgressCallback& progress) {
  Drawn drawn;
  drawn.loaded = load_pipeline(load);
  Pipeline& pipeline = *drawn.loaded.pipeline;
  drawn.side.options = describe(load, pipeline.dtype());
  for (const ComponentAttestation& component : pipeline.attestation()) {
    drawn.side.precision_summary.push_back(summarize(component));
  }
  GenerateRequest request = options.request;
  request.record_trajectory = true;
  for (int i = 0; i < options.warmup_runs; ++i) pipeline.generate(request, progress);
  constexpr double kMiB = 1024.0 * 1024.0;
  for (int i = 0; i < options.measure_runs; ++i) {
    reset_peak_memory();
    GenerateResult result = pipeline.generate(request, progress);
    drawn.side.generation_time_s.push_back(result.total_duration_ms * 1e-3);
    drawn.side.total_duration_ms.push_back(result.total_duration_ms);
    drawn.side.peak_memory_mb.push_back(static_cast<double>(process_memory().peak_resident_bytes) /
                                        kMiB);
    drawn.request = std::move(result.request);
    drawn.frames = std::move(result.outputs.front().frames);
    drawn.trajectory = std::move(*result.outputs.front().trajectory);
  }
  for (const ShownFrame& shown : shown_frames(drawn.frames.size())) {
    drawn.side.pictures.push_back(drawn.frames[shown.index]);
  }
  // Enough to see every layer, and too little to disturb what was measured.
  LinearCollector linears(layer_rows(pipeline.attestation()));
  drawn.loaded.backend->set_linear_probe(&linears);
  pipeline.generate(shortest(request, drawn.request), nullptr);
  drawn.loaded.backend->set_linear_probe(nullptr);
  drawn.side.transformer_weight_bytes = linears.resident_bytes();
  return drawn;
}

std::vector<LayerError> compare_layers(const CompareOptions& options, Drawn& candidate,
                                       const ProgressCallback& progress) {
  std::set<int> steps;
  for (const int step : options.layer_steps) {
    const auto count = static_cast<std::size_t>(candidate.request.num_inference_steps);
    steps.insert(static_cast<int>(select_step(step, count)));
  }
  if (steps.empty()) return {};

  const LoadedPipeline reference = load_pipeline(options.reference);
  LinearCollector linears(layer_rows(reference.pipeline->attestation()));
  reference.backend->set_linear_probe(&linears);
  reference.pipeline->generate(shortest(options.request, candidate.request), nullptr);
  reference.backend->set_linear_probe(nullptr);

  LayerComparison layers({*reference.backend, linears},
                         layer_rows(candidate.loaded.pipeline->attestation()), steps);
  candidate.loaded.backend->set_linear_probe(&layers);
  candidate.loaded.pipeline->generate(options.request, [&](const Progress& done) {
    layers.set_step(done.step);
    return !progress || progress(done);
  });
  candidate.loaded.backend->set_linear_probe(nullptr);
  return layers.worst_first();
}

}  // namespace

Comparison compare_models(const CompareOptions& options, const ProgressCallback& progress) {
  Drawn reference = draw(options, options.reference, progress);
  reference.loaded.pipeline.reset();  // the candidate has the memory to itself
  Drawn candidate = draw(options, options.candidate, progress);
  const ResolvedRequest& request = reference.request;
  Comparison comparison{
      .request = ComparedRequest{.model_path = options.reference.model_path,
                                 .prompt = request.prompt,
                                 .seed = options.request.seed,
                                 .width = request.width,
                                 .height = request.height,
                                 .num_frames = request.video ? request.video->num_frames : 1,
                                 .num_inference_steps = request.num_inference_steps,
                                 .guidance_scale = request.guidance_scale,
                                 .guidance_scale_2 =
                                     request.video ? request.video->guidance_scale_2 : std::nullopt,
                                 .warmup_runs = options.warmup_runs,
                                 .measure_runs = options.measure_runs},
      .reference = std::move(reference.side),
      .candidate = candidate.side,
      .trajectory_shape = reference.trajectory.latents.shape(),
      .steps = compare_steps({reference.trajectory.latents, reference.trajectory.timesteps},
                             {candidate.trajectory.latents, candidate.trajectory.timesteps}),
      .selected_step = 0,
      .embeddings = compare_embeddings(reference.trajectory, candidate.trajectory),
      .frames = {},
      .all_frames = {},
      .layers = {},
      .precision = precision_rows(*candidate.loaded.pipeline)};
  comparison.selected_step = select_step(options.step_index, comparison.steps.size());
  FrameSimilarities frames;
  for (std::size_t i = 0; i < std::min(reference.frames.size(), candidate.frames.size()); ++i) {
    frames.add(reference.frames[i], candidate.frames[i]);
  }
  comparison.frames = frames.frames();
  comparison.all_frames = frames.all();
  comparison.layers = compare_layers(options, candidate, progress);
  return comparison;
}

Comparison compare_trajectory_files(const std::filesystem::path& reference,
                                    const std::filesystem::path& candidate, int step_index) {
  const Trajectory r = load_trajectory(reference).trajectory;
  const Trajectory c = load_trajectory(candidate).trajectory;
  if (r.latents.shape() != c.latents.shape()) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("trajectories differ in shape: {} has latents {}, {} has {}",
                            reference.string(), to_string(r.latents.shape()), candidate.string(),
                            to_string(c.latents.shape())));
  }
  Comparison comparison;
  comparison.reference.options = {{"trajectory", reference.string()}};
  comparison.candidate.options = {{"trajectory", candidate.string()}};
  comparison.trajectory_shape = r.latents.shape();
  comparison.steps = compare_steps({r.latents, r.timesteps}, {c.latents, c.timesteps});
  comparison.selected_step = select_step(step_index, comparison.steps.size());
  comparison.embeddings = compare_embeddings(r, c);
  return comparison;
}

}  // namespace dither
