#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "media/image.h"
#include "tensor/tensor.h"

namespace dither {

/// How far a candidate c is from a reference r, over all elements. Sums are kept in float64.
struct Similarity {
  double cosine = 1;       ///< r.c / (|r| |c|); 1 when both norms are 0, 0 when one is
  double mae = 0;          ///< mean |c - r|
  double mse = 0;          ///< mean (c - r)^2
  double rmse = 0;         ///< sqrt(mse)
  double max_abs = 0;      ///< max |c - r|
  double l2 = 0;           ///< |c - r|
  double relative_l2 = 0;  ///< |c - r| / |r|; 0 when both are 0, infinite when |r| is
};

/// What a Similarity is made of, summed up over parts. Of pixels, which are integers, the parts do
/// not change a bit.
class SimilaritySums {
 public:
  /// Throws kInvalidArgument when the spans differ in length.
  void add(std::span<const float> reference, std::span<const float> candidate);
  void add(const SimilaritySums& part);
  /// Throws kInvalidArgument when nothing was added.
  Similarity result() const;

 private:
  std::size_t count_ = 0;
  double dot_ = 0;
  double reference_squared_ = 0;
  double candidate_squared_ = 0;
  double absolute_ = 0;
  double squared_ = 0;
  double max_abs_ = 0;
};

/// Throws kInvalidArgument when the spans differ in length or are empty.
Similarity compare_values(std::span<const float> reference, std::span<const float> candidate);

/// Latents after one denoising step.
struct StepSimilarity {
  std::int64_t step = 0;  ///< 0-based
  std::optional<double> reference_timestep;
  std::optional<double> candidate_timestep;
  Similarity similarity;
};

/// What is compared step by step: latents [B, steps, ...] and timesteps [steps], or absent. f32 in
/// host memory.
struct LatentSteps {
  Tensor latents;
  Tensor timesteps;
};

/// One entry per step. Throws kInvalidArgument, naming both shapes, when they differ.
std::vector<StepSimilarity> compare_steps(const LatentSteps& reference,
                                          const LatentSteps& candidate);

/// Similarity of 8-bit pixels, taken as numbers from 0 to 255.
struct PictureSimilarity {
  Similarity pixels;
  double psnr_db = 0;  ///< 20 log10(255) - 10 log10(mse); infinite for equal pictures
};

double psnr_db(double mse);

/// Throws kInvalidArgument, naming both sizes, when they differ.
PictureSimilarity compare_pictures(const Image& reference, const Image& candidate);

/// Compares videos frame by frame.
class FrameSimilarities {
 public:
  /// Throws like compare_pictures().
  void add(const Image& reference, const Image& candidate);
  const std::vector<PictureSimilarity>& frames() const { return frames_; }
  /// Over the pixels of all frames. Throws kInvalidArgument when there are none.
  PictureSimilarity all() const;

 private:
  std::vector<PictureSimilarity> frames_;
  SimilaritySums sums_;
};

/// |candidate - reference| * gain per sample, saturated: what eyes would miss.
Image amplified_difference(const Image& reference, const Image& candidate, int gain);

}  // namespace dither
