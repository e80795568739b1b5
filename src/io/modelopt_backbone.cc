#include "io/modelopt_backbone.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <system_error>
#include <utility>
#include <vector>

#include "base/error.h"
#include "io/untrusted_name.h"
#include "quant/fp8.h"
#include "tensor/host_floats.h"

namespace dither {
namespace {

namespace fs = std::filesystem;

fs::path backbone_file(const fs::path& path) {
  std::error_code failed;
  if (!fs::is_directory(path, failed)) return path;
  for (const char* name : {"backbone.pt", "transformer.pt"}) {
    if (fs::exists(path / name, failed)) return path / name;
  }
  throw Error(ErrorCode::kNotFound,
              fmt::format("{}: neither backbone.pt nor transformer.pt is there", path.string()));
}

/// Two roundings of one number to 8 or more bits of significand.
bool same_number(float a, float b) {
  constexpr float kCoarsest = 0x1p-7F;
  return std::fabs(a - b) <= kCoarsest * std::max(std::fabs(a), std::fabs(b));
}

}  // namespace

ModelOptBackbone ModelOptBackbone::open(const fs::path& path) {
  return ModelOptBackbone(TorchFile::open(backbone_file(path)));
}

ModelOptBackbone::ModelOptBackbone(std::unique_ptr<TorchFile> file)
    : file_(std::move(file)), description_(file_->description()) {}

std::optional<float> ModelOptBackbone::weight_scale(std::string_view layer) const {
  return scale(layer, "weight_quantizer");
}

std::optional<float> ModelOptBackbone::input_scale(std::string_view layer) const {
  return scale(layer, "input_quantizer");
}

std::optional<float> ModelOptBackbone::scale(std::string_view layer,
                                             std::string_view quantizer) const {
  const std::string name = fmt::format("{}.{}._amax", layer, quantizer);
  const TensorInfo* info = file_->find(name);
  if (info == nullptr) return std::nullopt;
  const std::string what = fmt::format("{}: {}", description_, quote(name));
  if (element_count(info->shape) != 1 || !is_floating(info->dtype)) {
    throw Error(ErrorCode::kDataLoss, fmt::format("{} is {} {}, expected one number", what,
                                                  dtype_name(info->dtype), to_string(info->shape)));
  }
  std::array<float, 1> amax{};
  read_floats(file_->read(name), 0, amax);
  return quant::fp8_scale(amax[0], what);
}

std::string ModelOptBackbone::difference(std::string_view layer, const Tensor& weight) const {
  const std::string name = fmt::format("{}.weight", layer);
  const TensorInfo* info = file_->find(name);
  if (info == nullptr) return "it is not there";
  if (const auto& state = file_->modelopt_state()) {
    const auto quantizer = state->quantizer_enabled.find(fmt::format("{}.weight_quantizer", layer));
    if (quantizer != state->quantizer_enabled.end() && !quantizer->second) {
      return "its quantizer is disabled";
    }
  }
  if (info->shape != weight.shape()) {
    return fmt::format("its weight is {}, not {}", to_string(info->shape),
                       to_string(weight.shape()));
  }
  if (!is_floating(info->dtype) || !is_floating(weight.dtype()) || weight.elements() == 0)
    return {};
  std::vector<float> ours(static_cast<std::size_t>(weight.dim(1)));
  std::vector<float> theirs(ours.size());
  read_floats(weight, 0, ours);
  read_floats(file_->read(name), 0, theirs);
  return std::ranges::equal(ours, theirs, same_number) ? "" : "its weight has other values";
}

}  // namespace dither
