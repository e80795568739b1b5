#include "pipelines/dummy_source.h"

#include <fmt/format.h>

#include <unordered_set>
#include <utility>

#include "base/error.h"

namespace dither {
namespace {

class NoTensors final : public TensorSource {
 public:
  std::string_view description() const override { return "no tensors"; }
  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  const TensorInfo* find(std::string_view /*name*/) const override { return nullptr; }
  Tensor read(std::string_view name) const override {
    throw Error(ErrorCode::kNotFound, fmt::format("no tensor '{}'", name));
  }
  void release(const Tensor& /*tensor*/) const override {}

 private:
  std::vector<TensorInfo> tensors_;
};

}  // namespace

std::unique_ptr<quant::WeightSource> make_dummy_source(const nn::TensorTable& table,
                                                       DummyNumbers& numbers,
                                                       DummyWeights::Options options) {
  std::unordered_set<std::string> linears;
  for (const std::string& name : table.linears()) linears.insert(name + ".weight");
  std::vector<DummyTensor> tensors;
  for (const nn::TensorSpec& spec : table.specs()) {
    tensors.push_back({spec.name, spec.shape, linears.contains(spec.name)});
  }
  return std::make_unique<DummyWeights>(tensors, numbers, std::move(options));
}

const TensorSource& no_tensors() {
  static const NoTensors kNone;
  return kNone;
}

void check_load_format(const WeightOptions& options) {
  const auto refuse = [](std::string_view what) {
    throw Error(ErrorCode::kInvalidArgument, std::string(what));
  };
  if (options.format == LoadFormat::kDummy) {
    if (options.transformer.weights) {
      refuse("--transformer-weights-path and --load-format dummy exclude each other");
    }
    if (options.transformer.modelopt_backbone) {
      refuse("--modelopt-backbone and --load-format dummy exclude each other");
    }
  } else if (options.dummy_quantization != DummyQuantization::kNone) {
    refuse(fmt::format("--dummy-quantization {} needs --load-format dummy",
                       dummy_quantization_name(options.dummy_quantization)));
  }
}

}  // namespace dither
