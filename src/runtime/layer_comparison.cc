#include "runtime/layer_comparison.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "ops/ops.h"
#include "pipelines/trajectory_recorder.h"
#include "report/similarity.h"

namespace dither {
namespace {

/// Columns [begin, begin + count) of a host tensor [rows, cols], f32.
std::vector<float> columns(const Tensor& host, std::int64_t begin, std::int64_t count) {
  const std::int64_t cols = host.dim(-1);
  const std::int64_t rows = host.elements() / cols;
  std::vector<float> values;
  values.reserve(static_cast<std::size_t>(rows * count));
  for (std::int64_t row = 0; row < rows; ++row) {
    const float* const first = host.data<float>() + row * cols + begin;
    values.insert(values.end(), first, first + count);
  }
  return values;
}

bool executed_alike(const ops::LinearPrecision& a, const ops::LinearPrecision& b) {
  return a.stored == b.stored && a.resident == b.resident && a.product == b.product;
}

}  // namespace

LayerRows layer_rows(const ComponentAttestation& component) {
  LayerRows rows;
  for (const LayerAttestation& layer : component.layers) {
    if (layer.plan.shape.size() == 2) rows[layer.executed.name] = layer.plan.shape[0];
  }
  return rows;
}

void LinearCollector::on_linear(const ops::PreparedLinear& weights, const Tensor& /*x*/,
                                const ops::LinearEpilogue& /*epilogue*/, const Tensor& /*y*/) {
  const auto shards = weights.precision();
  if (shards.empty() || !layers_.contains(shards.front().name)) return;
  found_.emplace(shards.front().name, &weights);
}

std::uint64_t LinearCollector::resident_bytes() const {
  std::uint64_t bytes = 0;
  for (const auto& [name, linear] : found_) bytes += linear->resident_bytes();
  return bytes;
}

void LayerComparison::on_linear(const ops::PreparedLinear& weights, const Tensor& x,
                                const ops::LinearEpilogue& /*epilogue*/, const Tensor& /*y*/) {
  const auto candidate = weights.precision();
  if (candidate.empty() || !steps_.contains(step_)) return;
  const auto found = reference_.linears.found().find(candidate.front().name);
  if (found == reference_.linears.found().end()) return;
  const auto reference = found->second->precision();
  if (std::ranges::equal(reference, candidate, executed_alike)) return;
  if (!seen_.emplace(candidate.front().name, step_).second) return;

  ops::Backend& backend = ops::backend_of(x);
  backend.set_linear_probe(nullptr);  // these products are ours
  const Tensor c = host_copy_f32(ops::linear(x, weights), backend);
  backend.set_linear_probe(this);
  const Tensor same_x = reference_.backend.upload(host_copy_f32(x, backend), reference_.dtype);
  const Tensor r = host_copy_f32(ops::linear(same_x, *found->second), reference_.backend);
  if (r.shape() != c.shape() || reference.size() != candidate.size()) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("layer '{}': the reference gives {}, the candidate {}",
                            candidate.front().name, to_string(r.shape()), to_string(c.shape())));
  }
  add(reference, candidate, r, c);
}

void LayerComparison::add(std::span<const ops::LinearPrecision> reference,
                          std::span<const ops::LinearPrecision> candidate, const Tensor& r,
                          const Tensor& c) {
  std::int64_t begin = 0;
  for (std::size_t i = 0; i < candidate.size(); ++i) {
    const std::int64_t count = rows_.at(candidate[i].name);
    const std::vector<float> expected = columns(r, begin, count);
    const Similarity similarity = compare_values(expected, columns(c, begin, count));
    errors_.push_back({.layer = candidate[i].name,
                       .reference_execution = executed_name(reference[i]),
                       .candidate_execution = executed_name(candidate[i]),
                       .step = step_,
                       .cosine = similarity.cosine,
                       .relative_l2 = similarity.relative_l2});
    begin += count;
  }
}

std::vector<LayerError> LayerComparison::worst_first() const {
  std::vector<LayerError> errors = errors_;
  std::ranges::stable_sort(errors, std::ranges::greater{}, &LayerError::relative_l2);
  return errors;
}

}  // namespace dither
