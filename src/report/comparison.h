#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "media/image.h"
#include "report/similarity.h"
#include "tensor/shape.h"

namespace dither {

/// One of the two sides, and how its runs went.
struct ComparedSide {
  /// How the model was loaded: {"model_path", "..."}, {"transformer_path", "..."}.
  std::vector<std::pair<std::string, std::string>> options;
  std::vector<double> generation_time_s;  ///< per measured run
  std::vector<double> peak_memory_mb;     ///< of the process, per measured run, in MiB
  std::vector<double> total_duration_ms;  ///< inside the pipeline, per measured run
  std::optional<std::string> output_file_path;
  std::vector<Image> pictures;  ///< the picture, or those of a video's frames that are shown
  std::uint64_t transformer_weight_bytes = 0;  ///< resident, of its linear layers
  std::vector<std::string> precision_summary;  ///< a line per component
};

/// What both sides drew.
struct ComparedRequest {
  std::string model_path;
  std::string prompt;
  std::uint64_t seed = 0;
  int width = 0;
  int height = 0;
  int num_frames = 1;
  int num_inference_steps = 0;
  double guidance_scale = 0;
  std::optional<double> guidance_scale_2 = {};
  int warmup_runs = 0;
  int measure_runs = 1;
};

/// Output of one linear layer, both sides given the candidate's input.
struct LayerError {
  std::string layer;
  std::string reference_execution;  ///< "BF16"
  std::string candidate_execution;  ///< "FP8"
  int step = 0;                     ///< 0-based; what runs before the first step counts as 0
  double cosine = 1;
  double relative_l2 = 0;  ///< |c - r| / |r|
};

/// How one layer of the candidate was stored and is executed.
struct LayerPrecisionRow {
  std::string component;
  std::string layer;
  std::string stored;
  std::string executed;
  std::string kernel;
  std::string scale_source;
  std::string fallback;
};

/// A candidate against a reference. Two saved trajectories have steps only, two files of videos
/// frames only.
struct Comparison {
  std::optional<ComparedRequest> request;
  ComparedSide reference;
  ComparedSide candidate;
  Shape trajectory_shape;
  std::vector<StepSimilarity> steps;
  std::size_t selected_step = 0;
  /// What the text encoders made of the prompt, where both have it in one shape.
  std::vector<std::pair<std::string, Similarity>> embeddings;
  std::vector<PictureSimilarity> frames;  ///< a picture has one, saved trajectories have none
  PictureSimilarity all_frames;           ///< over the pixels of all; where there are frames
  std::vector<LayerError> layers;
  std::vector<LayerPrecisionRow> precision;

  /// Where there are steps.
  const StepSimilarity& selected() const { return steps[selected_step]; }
};

/// The step that an index means; negative ones count from the end. Throws kInvalidArgument, naming
/// the number of steps.
std::size_t select_step(int index, std::size_t steps);

/// A frame of which reports show the pictures: "first frame", "middle frame" (index n / 2), "last
/// frame". Of two frames the first and the last, of a picture itself, without a name.
struct ShownFrame {
  std::size_t index = 0;
  std::string_view name;
};
std::vector<ShownFrame> shown_frames(std::size_t frames);

/// Mean; 0 of nothing.
double mean(const std::vector<double>& values);

/// The document of SGLang's trajectory comparison: its keys and "embedding_metrics", sorted, indent
/// 2, infinity and NaN as Python writes them.
std::string comparison_json(const Comparison& comparison);

/// A page that needs nothing but itself: curves per step, pictures and their difference, layers
/// with the worst first, precision and timings.
std::string comparison_html(const Comparison& comparison);

}  // namespace dither
