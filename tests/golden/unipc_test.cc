// UniPC on tensors against diffusers: make_unipc.py made the trajectories.
#include <fmt/format.h>

#include "base/error.h"
#include "golden/golden.h"
#include "pipelines/wan/unipc_sampler.h"

namespace dither::golden {
namespace {

struct SamplerCase {
  const char* name;
  std::int64_t steps;
  double flow_shift;
};

constexpr SamplerCase kCases[] = {{"steps6.shift12.", 6, 12},   {"steps6.shift3.", 6, 3},
                                  {"steps40.shift12.", 40, 12}, {"steps40.shift5.", 40, 5},
                                  {"steps1.shift3.", 1, 3},     {"steps2.shift3.", 2, 3}};

class UniPcSamplerGolden : public testing::TestWithParam<std::string> {
 protected:
  Tensor golden(const std::string& name) const { return file_->read(name); }
  Tensor upload(const std::string& name, DType dtype = DType::kF32) const {
    return backend_->upload(golden(name), dtype);
  }

  static UniPcSampler sampler(const SamplerCase& test, const Tensor& latents) {
    schedulers::UniPcConfig config;
    config.flow_shift = test.flow_shift;
    return {schedulers::unipc_schedule(config, test.steps), latents};
  }

 private:
  std::unique_ptr<ops::Backend> backend_ = make_backend(GetParam());
  std::unique_ptr<SafetensorsFile> file_ =
      SafetensorsFile::open(source_dir() / "tests/golden/wan/unipc.safetensors");
};

TEST_P(UniPcSamplerGolden, FollowsDiffusers) {
  // Both run in float32, diffusers with float32 coefficients too: in these cases it lies up
  // to 3.1e-7 (relative L2) from its own float64 run.
  constexpr double kTolerance = 1e-6;
  const Tensor direction = upload("direction");
  double worst = 0;
  for (const SamplerCase& test : kCases) {
    SCOPED_TRACE(test.name);
    UniPcSampler unipc = sampler(test, upload("latents"));
    const Tensor expected = golden(std::string(test.name) + "trajectory");
    while (!unipc.finished()) {
      const std::int64_t step = unipc.step_index();
      const auto t = static_cast<float>(unipc.schedule().timesteps[static_cast<std::size_t>(step)]);
      const Tensor velocity = ops::add_scaled(direction, unipc.latents(), 0.25F * (t / 1000));
      const Tensor& latents = unipc.step(velocity);
      const double error =
          relative_l2(latents, expected.slice(0, step, step + 1).reshape({latents.dim(0)}));
      EXPECT_LE(error, kTolerance) << step;
      worst = std::max(worst, error);
    }
  }
  RecordProperty("worst_relative_l2", fmt::format("{:.2e}", worst));
}

TEST_P(UniPcSamplerGolden, TakesBf16VelocitiesAndKeepsFloat32) {
  UniPcSampler rounded = sampler(kCases[1], upload("latents"));
  UniPcSampler widened = sampler(kCases[1], upload("latents"));
  const Tensor velocity = upload("direction", DType::kBF16);
  while (!rounded.finished()) {
    rounded.step(velocity);
    widened.step(ops::cast(velocity, DType::kF32));
  }
  EXPECT_EQ(rounded.latents().dtype(), DType::kF32);
  EXPECT_EQ(to_floats(rounded.latents()), to_floats(widened.latents()));
}

TEST_P(UniPcSamplerGolden, RefusesWhatItCannotStep) {
  EXPECT_THROW(sampler(kCases[1], upload("latents", DType::kBF16)), Error);
  UniPcSampler one = sampler({"", 1, 3}, upload("latents"));
  EXPECT_THROW(one.step(upload("direction").slice(0, 0, 3)), Error);
  one.step(upload("direction"));
  EXPECT_THROW(one.step(upload("direction")), Error);
}

INSTANTIATE_TEST_SUITE_P(Backends, UniPcSamplerGolden, testing::ValuesIn(backends()), backend_name);

}  // namespace
}  // namespace dither::golden
