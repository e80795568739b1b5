// A FLUX.2 transformer that ModelOpt quantized to FP8 and exported itself (make_modelopt.py),
// against diffusers and against ModelOpt's own fake quantization.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include "golden/golden.h"
#include "io/component_weights.h"
#include "models/flux2/transformer.h"
#include "pipelines/attestation.h"
#include "pipelines/flux2/flux2_configs.h"

namespace dither::golden {
namespace {

const std::filesystem::path kMicro = source_dir() / "tests/golden/modelopt/flux2-micro";
constexpr models::TokenGrid kGrid = {3, 4};

struct Forward {
  std::unique_ptr<ops::Backend> backend;  ///< outlives its tensors
  Tensor output;
  ComponentAttestation attestation;
};

Forward run(const std::filesystem::path& folder, std::string_view backend_name, DType dtype) {
  auto backend = make_backend(backend_name);
  const auto source = open_component_weights(folder, kDiffusersStem);
  const auto config = parse_flux2_config(JsonConfig::load(folder / "config.json"));
  const nn::TensorTable table = models::flux2_table(config);
  table.check(*source);
  source->check_linears(table.linears());
  std::vector<ops::LinearPrecision> precision;
  const models::Flux2Transformer transformer(nn::WeightScope(*source, *backend, dtype, &precision),
                                             config);

  const auto inputs = SafetensorsFile::open(kMicro / "reference.safetensors");
  const auto upload = [&](const char* name) { return backend->upload(inputs->read(name), dtype); };
  const auto conditioning =
      transformer.prepare({.prompt_embeds = upload("input.encoder_hidden_states"),
                           .timesteps = {1000 * to_floats(inputs->read("input.timestep"))[0]},
                           .guidance_scale = to_floats(inputs->read("input.guidance"))[0],
                           .grid = kGrid});
  const Tensor y = transformer.velocity(upload("input.hidden_states"), conditioning, 0);
  Tensor output = backend->download(ops::cast(y, DType::kF32));
  return {std::move(backend), std::move(output),
          attest("transformer", "config.json", precision, *source)};
}

Tensor reference(const char* name) {
  return SafetensorsFile::open(kMicro / "reference.safetensors")->read(name);
}

class ModelOptFlux2 : public testing::TestWithParam<std::string> {};

TEST_P(ModelOptFlux2, BaseWeightsRunAsInDiffusers) {
  const Forward forward = run(kMicro / "base", GetParam(), DType::kF32);
  EXPECT_LE(relative_l2(forward.output, reference("output_f32")), 2e-5);
}

/// Against the same codes in PyTorch (make_flux2_fp8.py), which differs by the order of summation.
/// In bfloat16 against ModelOpt's fake quantization in bfloat16, which is 2.7e-2 from its own
/// float32.
TEST_P(ModelOptFlux2, ExportRunsInFp8) {
  const Tensor same_codes =
      SafetensorsFile::open(source_dir() / "tests/golden/flux2/fp8.safetensors")->read("output");
  const struct {
    DType dtype;
    Tensor expected;
    double tolerance;
  } table[] = {{DType::kF32, same_codes, 5e-4},
               {DType::kBF16, reference("fakequant_linear_output_bf16"), 2.7e-2}};
  for (const auto& row : table) {
    SCOPED_TRACE(dtype_name(row.dtype));
    const Forward forward = run(kMicro / "hf", GetParam(), row.dtype);
    EXPECT_LE(relative_l2(forward.output, row.expected), row.tolerance);
    // A double block has 12 of them, each of two single blocks 2.
    const std::string_view kept = dtype_name(product_dtype(GetParam(), row.dtype));
    EXPECT_EQ(
        summarize(forward.attestation),
        fmt::format("transformer: 16 FP8, 1 {} by exclusion, 10 {} by profile flux2, 0 silent",
                    kept, kept));
    EXPECT_NO_THROW(require_declared_precision(forward.attestation));
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, ModelOptFlux2, testing::ValuesIn(backends()), backend_name);

}  // namespace
}  // namespace dither::golden
