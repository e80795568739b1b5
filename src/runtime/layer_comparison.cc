#include "runtime/layer_comparison.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

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

constexpr std::array<std::string_view, 2> kTransformers = {"transformer", "transformer_2"};

bool executed_alike(const ops::LinearPrecision& a, const ops::LinearPrecision& b) {
  return a.stored == b.stored && a.resident == b.resident && a.product == b.product;
}

}  // namespace

std::string layer_label(const ops::LinearPrecision& layer) {
  return layer.component == kTransformers[1] ? layer.component + "." + layer.name : layer.name;
}

LayerRows layer_rows(std::span<const ComponentAttestation> components) {
  LayerRows rows;
  for (const ComponentAttestation& component : components) {
    if (std::ranges::find(kTransformers, component.component) == kTransformers.end()) continue;
    for (const LayerAttestation& layer : component.layers) {
      if (layer.plan.shape.size() == 2) rows[layer_label(layer.executed)] = layer.plan.shape[0];
    }
  }
  return rows;
}

namespace {

/// Encoders, too, may have a layer of the same name.
bool of_transformer(std::span<const ops::LinearPrecision> shards) {
  return !shards.empty() &&
         std::ranges::find(kTransformers, shards.front().component) != kTransformers.end();
}

}  // namespace

void LinearCollector::on_linear(const ops::PreparedLinear& weights, const Tensor& x,
                                const ops::LinearEpilogue& /*epilogue*/, const Tensor& /*y*/) {
  const auto shards = weights.precision();
  if (!of_transformer(shards) || !layers_.contains(layer_label(shards.front()))) return;
  found_.emplace(layer_label(shards.front()), Found{.linear = &weights, .activations = x.dtype()});
}

std::uint64_t LinearCollector::resident_bytes() const {
  std::uint64_t bytes = 0;
  for (const auto& [name, found] : found_) bytes += found.linear->resident_bytes();
  return bytes;
}

void LayerComparison::on_linear(const ops::PreparedLinear& weights, const Tensor& x,
                                const ops::LinearEpilogue& /*epilogue*/, const Tensor& /*y*/) {
  const auto candidate = weights.precision();
  if (!of_transformer(candidate) || !steps_.contains(step_)) return;
  const std::string label = layer_label(candidate.front());
  const auto found = reference_.linears.found().find(label);
  if (found == reference_.linears.found().end()) return;
  const auto& [linear, activations] = found->second;
  const auto reference = linear->precision();
  if (std::ranges::equal(reference, candidate, executed_alike)) return;
  if (!seen_.emplace(label, step_).second) return;

  ops::Backend& backend = ops::backend_of(x);
  backend.set_linear_probe(nullptr);  // these products are ours
  const Tensor c = host_copy_f32(ops::linear(x, weights), backend);
  backend.set_linear_probe(this);
  const Tensor same_x = reference_.backend.upload(host_copy_f32(x, backend), activations);
  const Tensor r = host_copy_f32(ops::linear(same_x, *linear), reference_.backend);
  if (r.shape() != c.shape() || reference.size() != candidate.size()) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("layer '{}': the reference gives {}, the candidate {}", label,
                            to_string(r.shape()), to_string(c.shape())));
  }
  add(reference, candidate, r, c);
}

void LayerComparison::add(std::span<const ops::LinearPrecision> reference,
                          std::span<const ops::LinearPrecision> candidate, const Tensor& r,
                          const Tensor& c) {
  std::int64_t begin = 0;
  for (std::size_t i = 0; i < candidate.size(); ++i) {
    const std::int64_t count = rows_.at(layer_label(candidate[i]));
    const std::vector<float> expected = columns(r, begin, count);
    const Similarity similarity = compare_values(expected, columns(c, begin, count));
    errors_.push_back({.layer = layer_label(candidate[i]),
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
