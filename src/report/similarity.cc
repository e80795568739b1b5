#include "report/similarity.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <string>

#include "base/error.h"

namespace dither {
namespace {

std::optional<double> timestep_at(const Tensor& timesteps, std::int64_t step) {
  if (!timesteps.defined() || step >= timesteps.elements()) return std::nullopt;
  return timesteps.data<float>()[step];
}

/// The elements of one step, in order. latents [B, steps, ...], contiguous.
std::vector<float> values_at(const Tensor& latents, std::int64_t step) {
  const std::int64_t batch = latents.dim(0);
  const std::int64_t steps = latents.dim(1);
  const std::int64_t size = latents.elements() / (batch * steps);
  std::vector<float> values;
  values.reserve(static_cast<std::size_t>(batch * size));
  for (std::int64_t b = 0; b < batch; ++b) {
    const float* const first = latents.data<float>() + (b * steps + step) * size;
    values.insert(values.end(), first, first + size);
  }
  return values;
}

void check_same_size(const Image& reference, const Image& candidate) {
  if (reference.width == candidate.width && reference.height == candidate.height &&
      reference.channels == candidate.channels) {
    return;
  }
  const auto describe = [](const Image& image) {
    return fmt::format("{} x {} x {}", image.width, image.height, image.channels);
  };
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("pictures differ in size: the reference is {}, the candidate {}",
                          describe(reference), describe(candidate)));
}

SimilaritySums sums_of(const Image& reference, const Image& candidate) {
  check_same_size(reference, candidate);
  const std::vector<float> r(reference.pixels.begin(), reference.pixels.end());
  const std::vector<float> c(candidate.pixels.begin(), candidate.pixels.end());
  SimilaritySums sums;
  sums.add(r, c);
  return sums;
}

PictureSimilarity similarity_of(const SimilaritySums& sums) {
  PictureSimilarity result{.pixels = sums.result()};
  result.psnr_db = psnr_db(result.pixels.mse);
  return result;
}

}  // namespace

void SimilaritySums::add(std::span<const float> reference, std::span<const float> candidate) {
  if (reference.size() != candidate.size()) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("cannot compare {} values with {}",
                                                         reference.size(), candidate.size()));
  }
  count_ += reference.size();
  for (std::size_t i = 0; i < reference.size(); ++i) {
    const double r = reference[i];
    const double c = candidate[i];
    const double difference = std::fabs(c - r);
    dot_ += r * c;
    reference_squared_ += r * r;
    candidate_squared_ += c * c;
    absolute_ += difference;
    squared_ += difference * difference;
    // Written so that a NaN stays: no comparison with it is true.
    if (!(difference <= max_abs_)) max_abs_ = difference;
  }
}

void SimilaritySums::add(const SimilaritySums& part) {
  count_ += part.count_;
  dot_ += part.dot_;
  reference_squared_ += part.reference_squared_;
  candidate_squared_ += part.candidate_squared_;
  absolute_ += part.absolute_;
  squared_ += part.squared_;
  if (!(part.max_abs_ <= max_abs_)) max_abs_ = part.max_abs_;
}

Similarity SimilaritySums::result() const {
  if (count_ == 0) {
    throw Error(ErrorCode::kInvalidArgument, "cannot compare 0 values with 0");
  }
  Similarity result;
  result.max_abs = max_abs_;
  const auto count = static_cast<double>(count_);
  if (reference_squared_ == 0 || candidate_squared_ == 0) {
    result.cosine = reference_squared_ == candidate_squared_ ? 1 : 0;
  } else {
    result.cosine = dot_ / (std::sqrt(reference_squared_) * std::sqrt(candidate_squared_));
  }
  result.mae = absolute_ / count;
  result.mse = squared_ / count;
  result.rmse = std::sqrt(result.mse);
  result.l2 = std::sqrt(squared_);
  if (reference_squared_ > 0) {
    result.relative_l2 = result.l2 / std::sqrt(reference_squared_);
  } else if (result.l2 != 0) {
    result.relative_l2 = std::numeric_limits<double>::infinity();
  }
  return result;
}

Similarity compare_values(std::span<const float> reference, std::span<const float> candidate) {
  SimilaritySums sums;
  sums.add(reference, candidate);
  return sums.result();
}

std::vector<StepSimilarity> compare_steps(const LatentSteps& reference,
                                          const LatentSteps& candidate) {
  const Shape& shape = reference.latents.shape();
  if (shape != candidate.latents.shape() || shape.size() < 2 || element_count(shape) == 0) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("trajectories cannot be compared: the reference is {}, the candidate "
                            "{}; expected equal shapes [batch, steps, ...]",
                            to_string(shape), to_string(candidate.latents.shape())));
  }
  std::vector<StepSimilarity> steps;
  for (std::int64_t step = 0; step < shape[1]; ++step) {
    steps.push_back({.step = step,
                     .reference_timestep = timestep_at(reference.timesteps, step),
                     .candidate_timestep = timestep_at(candidate.timesteps, step),
                     .similarity = compare_values(values_at(reference.latents, step),
                                                  values_at(candidate.latents, step))});
  }
  return steps;
}

double psnr_db(double mse) {
  if (mse == 0) return std::numeric_limits<double>::infinity();
  return 20 * std::log10(255.0) - 10 * std::log10(mse);
}

PictureSimilarity compare_pictures(const Image& reference, const Image& candidate) {
  return similarity_of(sums_of(reference, candidate));
}

void FrameSimilarities::add(const Image& reference, const Image& candidate) {
  const SimilaritySums sums = sums_of(reference, candidate);
  frames_.push_back(similarity_of(sums));
  sums_.add(sums);
}

PictureSimilarity FrameSimilarities::all() const { return similarity_of(sums_); }

Image amplified_difference(const Image& reference, const Image& candidate, int gain) {
  check_same_size(reference, candidate);
  Image difference = reference;
  for (std::size_t i = 0; i < difference.pixels.size(); ++i) {
    const int value = std::abs(int{candidate.pixels[i]} - int{reference.pixels[i]}) * gain;
    difference.pixels[i] = static_cast<std::uint8_t>(std::min(value, 255));
  }
  return difference;
}

}  // namespace dither
