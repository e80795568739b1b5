#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "backends/cpu/cpu_backend.h"
#include "backends/cuda/cuda_backend.h"
#include "io/safetensors.h"
#include "nn/tensor_table.h"
#include "nn/weight_scope.h"
#include "ops/ops.h"

/// What golden tests share: where files lie, which backends run, how far results may differ.
namespace dither::golden {

/// The repository: where this program was built, or, for one that was carried elsewhere, what
/// $DITHER_SOURCE_DIR says.
inline std::filesystem::path source_dir() {
  const char* const elsewhere = std::getenv("DITHER_SOURCE_DIR");
  return elsewhere != nullptr ? elsewhere : DITHER_SOURCE_DIR;
}

/// Every backend that runs here; "cuda" where this build and this machine have it.
inline std::vector<std::string> backends() {
  std::vector<std::string> names = {"reference", "cpu"};
  if (cuda_available()) names.emplace_back("cuda");
  return names;
}

/// The name of a test that a backend parametrizes.
inline std::string backend_name(const testing::TestParamInfo<std::string>& backend) {
  return backend.param;
}

/// Backends by the names that parametrize tests.
inline std::unique_ptr<ops::Backend> make_backend(std::string_view name) {
  if (name == "cuda") return make_cuda_backend();
  return name == "reference" ? cpu::make_cpu_reference_backend() : cpu::make_cpu_backend();
}

/// In what that backend multiplies layers of this dtype here.
inline DType product_dtype(std::string_view backend, DType activations) {
  return backend == "cpu" ? cpu::product_dtype(activations) : activations;
}

/// Elements of a host or device tensor as float32, contiguous.
inline std::vector<float> to_floats(const Tensor& tensor) {
  Tensor host = tensor;
  if (tensor.device() != nullptr) {
    host = ops::backend_of(tensor).download(ops::cast(ops::contiguous(tensor), DType::kF32));
  }
  std::vector<float> values(static_cast<std::size_t>(host.elements()));
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] =
        host.dtype() == DType::kBF16 ? to_float(host.data<bf16>()[i]) : host.data<float>()[i];
  }
  return values;
}

/// |a - b| / |b| (Euclidean), infinite for unequal shapes.
inline double relative_l2(const Tensor& actual, const Tensor& expected) {
  if (actual.shape() != expected.shape()) return HUGE_VAL;
  const std::vector<float> a = to_floats(actual);
  const std::vector<float> b = to_floats(expected);
  double difference = 0;
  double norm = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference += std::pow(double{a[i]} - double{b[i]}, 2);
    norm += std::pow(double{b[i]}, 2);
  }
  return std::sqrt(difference / norm);
}

/// a . b / (|a| |b|), 0 for unequal shapes.
inline double cosine(const Tensor& actual, const Tensor& expected) {
  if (actual.shape() != expected.shape()) return 0;
  const std::vector<float> a = to_floats(actual);
  const std::vector<float> b = to_floats(expected);
  double dot = 0;
  double aa = 0;
  double bb = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    dot += double{a[i]} * double{b[i]};
    aa += double{a[i]} * double{a[i]};
    bb += double{b[i]} * double{b[i]};
  }
  return dot / std::sqrt(aa * bb);
}

/// An NHWC image in the layout of the goldens, and back.
inline Tensor to_nchw(const Tensor& x) { return ops::contiguous(x.permute({0, 3, 1, 2})); }
inline Tensor to_nhwc(const Tensor& x) { return ops::contiguous(x.permute({0, 2, 3, 1})); }

/// The tensors of another source whose names start with a prefix, without it: several small models
/// share one file.
class PrefixedSource final : public TensorSource {
 public:
  PrefixedSource(const TensorSource& source, std::string prefix)
      : source_(source), prefix_(std::move(prefix)) {
    for (const TensorInfo& info : source.tensors()) {
      if (!info.name.starts_with(prefix_)) continue;
      tensors_.push_back(info);
      tensors_.back().name = info.name.substr(prefix_.size());
    }
  }
  std::string_view description() const override { return source_.description(); }
  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  const TensorInfo* find(std::string_view name) const override {
    return source_.find(prefix_ + std::string(name));
  }
  Tensor read(std::string_view name) const override {
    return source_.read(prefix_ + std::string(name));
  }
  void release(const Tensor& tensor) const override { source_.release(tensor); }

 private:
  const TensorSource& source_;
  std::string prefix_;
  std::vector<TensorInfo> tensors_;
};

/// A model whose config and checkpoint were checked, as a pipeline does it.
template <typename Model, typename Config>
Model load(const TensorSource& source, const nn::TensorTable& table, const Config& config,
           ops::Backend& backend, DType dtype) {
  config.validate();
  table.check(source);
  return Model(nn::WeightScope(source, backend, dtype), config);
}

}  // namespace dither::golden
