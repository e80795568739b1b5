#include "pipelines/calibration.h"

#include <algorithm>
#include <array>

#include "ops/ops.h"
#include "tensor/host_floats.h"

namespace dither {
namespace {

void add_all(const Tensor& host, quant::AmaxStatistics& statistics) {
  std::array<float, 4096> block{};
  const std::int64_t size = host.elements();
  for (std::int64_t begin = 0; begin < size; begin += std::ssize(block)) {
    const auto count = std::min<std::int64_t>(std::ssize(block), size - begin);
    const std::span<float> values(block.data(), static_cast<std::size_t>(count));
    read_floats(host, begin, values);
    statistics.add(values);
  }
}

}  // namespace

void InputCalibration::on_linear(const ops::PreparedLinear& weights, const Tensor& x,
                                 const ops::LinearEpilogue& /*epilogue*/, const Tensor& /*y*/) {
  const auto shards = weights.precision();
  const auto wanted = [this](const ops::LinearPrecision& p) {
    return p.component == component_ && layers_.contains(p.name);
  };
  if (std::ranges::none_of(shards, wanted)) return;
  const std::string& leader = shards.front().name;
  for (const ops::LinearPrecision& shard : shards) {
    if (wanted(shard)) leader_of_.emplace(shard.name, leader);
  }
  add_all(ops::backend_of(x).download(ops::contiguous(x)), statistics_[leader]);
}

std::map<std::string, float> InputCalibration::input_amax(std::optional<double> percentile) const {
  std::map<std::string, float> amax;
  for (const auto& [layer, leader] : leader_of_) {
    const quant::AmaxStatistics& statistics = statistics_.at(leader);
    amax[layer] = percentile ? statistics.percentile(*percentile) : statistics.amax();
  }
  return amax;
}

}  // namespace dither
