#pragma once

#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "nn/tensor_table.h"
#include "tensor/bfloat16.h"
#include "tensor/tensor.h"

/// Numbers that need no file: seeded.py says how they are made and makes the same in Python.
namespace dither::golden {

/// bfloat16(offset + scale u), as float32 in host memory.
inline Tensor seeded(std::string_view name, const Shape& shape, double scale = 1,
                     double offset = 0) {
  std::uint64_t state = 0xCBF29CE484222325;
  for (const char c : name) state = (state ^ static_cast<std::uint8_t>(c)) * 0x100000001B3;
  Tensor tensor = Tensor::host(shape, DType::kF32);
  for (std::int64_t i = 0; i < tensor.elements(); ++i) {
    state += 0x9E3779B97F4A7C15;
    std::uint64_t z = state;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    z = z ^ (z >> 31);
    const double u = (2.0 * (static_cast<double>(z >> 56) - 128) + 1) / 256;
    tensor.data<float>()[i] = round_to_bf16(static_cast<float>(offset + scale * u));
  }
  return tensor;
}

inline Tensor seeded_weight(const std::string& name, const Shape& shape) {
  const bool is_weight = name.ends_with(".weight");
  if (is_weight && name.find("norm") != std::string::npos) return seeded(name, shape, 0.25, 1);
  if (!is_weight) return seeded(name, shape, name.ends_with("_table") ? 0.5 : 0.125);
  const auto columns = static_cast<double>(element_count(shape) / shape[0]);
  return seeded(name, shape, std::exp2(std::round(std::log2(std::sqrt(3 / columns)))));
}

/// A checkpoint of a table's tensors; `prefix` tells models apart.
class SeededSource final : public TensorSource {
 public:
  explicit SeededSource(const nn::TensorTable& table, std::string prefix = "")
      : prefix_(std::move(prefix)) {
    for (const nn::TensorSpec& spec : table.specs()) {
      tensors_.push_back({spec.name, DType::kF32, spec.shape, "seeded"});
    }
  }
  std::string_view description() const override { return "seeded weights"; }
  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  const TensorInfo* find(std::string_view name) const override {
    for (const TensorInfo& info : tensors_) {
      if (info.name == name) return &info;
    }
    return nullptr;
  }
  Tensor read(std::string_view name) const override {
    const TensorInfo* const info = find(name);
    if (info == nullptr) throw Error(ErrorCode::kNotFound, std::string(name));
    return seeded_weight(prefix_ + info->name, info->shape);
  }
  void release(const Tensor& /*tensor*/) const override {}

 private:
  std::string prefix_;
  std::vector<TensorInfo> tensors_;
};

}  // namespace dither::golden
