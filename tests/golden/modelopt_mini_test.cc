// A FLUX.1 transformer that ModelOpt quantized to FP8 and exported itself, run in FP8 against
// ModelOpt's own fake quantization: tests/golden/modelopt/flux1-mini/README.md.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <cstdlib>
#include <map>

#include "base/test_util.h"
#include "golden/golden.h"
#include "io/component_weights.h"
#include "io/safetensors_writer.h"
#include "io/torch_file.h"
#include "models/flux1/transformer.h"
#include "pipelines/attestation.h"
#include "pipelines/flux1/flux1_configs.h"

namespace dither::golden {
namespace {

using ::testing::HasSubstr;
using ::testing::Values;

const std::filesystem::path kMini = source_dir() / "tests/golden/modelopt/flux1-mini";
const std::filesystem::path kExport = kMini / "hf/transformer";
const std::filesystem::path kBackbone = kMini / "transformer.pt";
constexpr models::TokenGrid kGrid = {8, 8};
constexpr const char* kWeights = "diffusion_pytorch_model.safetensors";

std::unique_ptr<QuantizedCheckpoint> native_export() {
  return open_component_weights(kExport, kDiffusersStem);
}

/// The export as ModelOpt sometimes wrote it: FP8 by its config, 16-bit weights, no scales.
void write_scale_less_export(const std::filesystem::path& folder) {
  const auto backbone = TorchFile::open(kBackbone);
  std::map<std::string, Tensor> weights;
  for (const TensorInfo& info : backbone->tensors()) {
    if (!is_quantization_tensor(info.name)) weights[info.name] = backbone->read(info.name);
  }
  std::filesystem::copy_file(kExport / "config.json", folder / "config.json");
  write_safetensors(folder / kWeights, weights);
}

/// One call of the transformer with the reference's inputs.
struct Forward {
  std::unique_ptr<ops::Backend> backend;  ///< outlives its tensors
  Tensor output;
  ComponentAttestation attestation;
};

Forward run(const QuantizedCheckpoint& source, std::string_view backend_name, DType dtype) {
  auto backend = make_backend(backend_name);
  const auto config = parse_flux1_config(JsonConfig::load(kExport / "config.json"));
  const nn::TensorTable table = models::flux1_table(config);
  table.check(source);
  source.check_linears(table.linears());
  std::vector<ops::LinearPrecision> precision;
  const models::Flux1Transformer transformer(nn::WeightScope(source, *backend, dtype, &precision),
                                             config);

  const auto inputs = SafetensorsFile::open(kMini / "reference.safetensors");
  const auto upload = [&](const char* name) { return backend->upload(inputs->read(name), dtype); };
  const float timestep = 1000 * to_floats(inputs->read("timestep"))[0];
  const auto conditioning =
      transformer.prepare({.prompt_embeds = upload("encoder_hidden_states"),
                           .pooled_prompt_embeds = upload("pooled_projections"),
                           .timesteps = {timestep},
                           .guidance_scale = to_floats(inputs->read("guidance"))[0],
                           .grid = kGrid});
  const Tensor y = transformer.velocity(upload("hidden_states"), conditioning, 0);
  Tensor output = backend->download(ops::cast(y, DType::kF32));
  return {std::move(backend), std::move(output),
          attest("transformer", "config.json", precision, source)};
}

Tensor reference(const char* name) {
  return SafetensorsFile::open(kMini / "reference.safetensors")->read(name);
}

class ModelOptMini : public testing::TestWithParam<std::string> {};

/// |ours - reference| / |reference| allowed for one precision of the activations.
struct Tolerance {
  DType dtype;
  const char* reference;
  double native;
  double scale_less;
};

/// In float32 the scale-less export differs by the order of summation only, which now and then
/// moves an activation to its neighbouring code; the same arithmetic in PyTorch comes within 1e-6.
/// The native export was divided by its scales in bfloat16, so that about 2 % of its codes are
/// neighbours of those that the reference uses: 2.3e-3 in PyTorch. In bfloat16 both add where each
/// rounds: 4.9e-3 and 3.5e-3 in PyTorch, where the reference itself is 3.8e-2 from float32's.
constexpr Tolerance kTolerances[] = {
    {DType::kF32, "fakequant_linear_only_output_fp32", 3e-3, 5e-4},
    {DType::kBF16, "fakequant_linear_only_output_bf16", 1e-2, 1e-2},
};

TEST_P(ModelOptMini, NativeExportRunsInFp8) {
  const auto source = native_export();
  for (const Tolerance& tolerance : kTolerances) {
    const Forward forward = run(*source, GetParam(), tolerance.dtype);
    EXPECT_LE(relative_l2(forward.output, reference(tolerance.reference)), tolerance.native);
    EXPECT_EQ(summarize(forward.attestation),
              fmt::format("transformer: 20 FP8, 10 {} by exclusion, 0 silent",
                          dtype_name(product_dtype(GetParam(), tolerance.dtype))));
    EXPECT_NO_THROW(require_declared_precision(forward.attestation));
  }
}

TEST_P(ModelOptMini, ScaleLessExportIsQuantizedByItsBackbone) {
  const TempFolder folder;
  write_scale_less_export(folder.path());
  const auto source = open_component_weights(folder.path(), kDiffusersStem,
                                             {.weights = {}, .modelopt_backbone = kBackbone});
  EXPECT_THAT(source->find_layer("transformer_blocks.0.attn.to_q")->scale_source,
              HasSubstr("transformer.pt"));
  for (const Tolerance& tolerance : kTolerances) {
    const Forward forward = run(*source, GetParam(), tolerance.dtype);
    EXPECT_LE(relative_l2(forward.output, reference(tolerance.reference)), tolerance.scale_less);
  }
}

// Both routes take the same scales; codes differ where the export's division in bfloat16 rounded to
// the other side, and never by more than one step.
TEST(ModelOptMiniCodes, OfBothRoutesAreNeighbours) {
  const TempFolder folder;
  write_scale_less_export(folder.path());
  const auto native = native_export();
  const auto quantized = open_component_weights(folder.path(), kDiffusersStem,
                                                {.weights = {}, .modelopt_backbone = kBackbone});
  std::int64_t codes = 0;
  std::int64_t different = 0;
  for (const quant::LayerPlan& plan : native->layers()) {
    if (plan.format != quant::Format::kFp8) continue;
    const quant::LinearWeight a = native->linear(plan.name);
    const quant::LinearWeight b = quantized->linear(plan.name);
    EXPECT_FLOAT_EQ(*a.weight_scale, *b.weight_scale) << plan.name;
    EXPECT_FLOAT_EQ(*a.input_scale, *b.input_scale) << plan.name;
    for (std::int64_t i = 0; i < a.weight.elements(); ++i) {
      const int step = a.weight.data<std::uint8_t>()[i] - b.weight.data<std::uint8_t>()[i];
      EXPECT_LE(std::abs(step), 1) << plan.name << ' ' << i;
      different += step != 0 ? 1 : 0;
    }
    codes += a.weight.elements();
  }
  EXPECT_GT(different, 0);
  EXPECT_LE(static_cast<double>(different), 0.03 * static_cast<double>(codes));
}

TEST(ModelOptMiniBackbone, MustBelongToTheExport) {
  const TempFolder folder;
  write_scale_less_export(folder.path());
  const auto weights = folder.path() / kWeights;
  std::map<std::string, Tensor> tensors;
  const auto original = SafetensorsFile::open(weights);
  for (const TensorInfo& info : original->tensors()) {
    tensors[info.name] = original->read(info.name);
  }
  const char* kOther = "transformer_blocks.0.attn.to_q.weight";
  const char* kSmaller = "transformer_blocks.0.attn.to_k.weight";
  tensors[kOther] = Tensor::host(tensors[kOther].shape(), DType::kBF16);
  tensors[kSmaller] = Tensor::host({64, 32}, DType::kBF16);
  write_safetensors(weights, tensors);
  const auto source = open_component_weights(folder.path(), kDiffusersStem,
                                             {.weights = {}, .modelopt_backbone = kBackbone});
  const std::vector<std::string> layers = {"transformer_blocks.0.attn.to_q",
                                           "transformer_blocks.0.attn.to_k",
                                           "transformer_blocks.0.attn.to_v"};
  EXPECT_THAT(error_of([&] { source->check_linears(layers); }).what(),
              testing::AllOf(HasSubstr("2 layers"), HasSubstr("to_q' does not belong to"),
                             HasSubstr("other values"), HasSubstr("to_k' does not belong to"),
                             HasSubstr("not [64, 32]")));
}

INSTANTIATE_TEST_SUITE_P(Backends, ModelOptMini, ::testing::ValuesIn(golden::backends()),
                         backend_name);

}  // namespace
}  // namespace dither::golden
