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

std::unique_ptr<quant::WeightSource> make_dummy_source(const ModelFolder& folder,
                                                       const char* component,
                                                       const nn::TensorTable& table,
                                                       DummyNumbers& numbers,
                                                       DummyQuantization quantization) {
  std::unordered_set<std::string> linears;
  for (const std::string& name : table.linears()) linears.insert(name + ".weight");
  std::vector<DummyTensor> tensors;
  for (const nn::TensorSpec& spec : table.specs()) {
    tensors.push_back({spec.name, spec.shape, linears.contains(spec.name)});
  }
  return std::make_unique<DummyWeights>(
      tensors, numbers,
      DummyWeights::Options{
          .description = fmt::format("{} (dummy)", folder.component_folder(component).string()),
          .quantization = quantization,
          .class_name = folder.component_class(component).name});
}

const TensorSource& no_tensors() {
  static const NoTensors kNone;
  return kNone;
}

void check_load_format(const PipelineOptions& options) {
  const auto refuse = [](std::string_view what) {
    throw Error(ErrorCode::kInvalidArgument, std::string(what));
  };
  if (options.format == LoadFormat::kDummy) {
    const auto exclude = [&](const auto& path, std::string_view option) {
      if (path) refuse(fmt::format("{} and --load-format dummy exclude each other", option));
    };
    exclude(options.transformer.weights, "--transformer-weights-path");
    exclude(options.transformer.modelopt_backbone, "--modelopt-backbone");
    exclude(options.transformer_2.weights, "--transformer-2-weights-path");
    exclude(options.transformer_2.modelopt_backbone, "--modelopt-backbone-2");
    return;
  }
  const auto need = [&](DummyQuantization quantization, std::string_view option) {
    if (quantization == DummyQuantization::kNone) return;
    refuse(fmt::format("{} {} needs --load-format dummy", option,
                       dummy_quantization_name(quantization)));
  };
  need(options.dummy_quantization, "--dummy-quantization");
  need(options.dummy_quantization_2.value_or(DummyQuantization::kNone), "--dummy-quantization-2");
}

}  // namespace dither
