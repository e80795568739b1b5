// Tiny Wan autoencoders against diffusers in float32: see make_micro_wan_vae.py and README.md.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "golden/golden.h"
#include "models/vae/wan_autoencoder.h"

namespace dither::golden {
namespace {

using models::WanVaeConfig;
using models::WanVaeDecoder;
using models::WanVaeEncoder;

/// Of every element; values reach 3. The float32 sums of diffusers' thirty layers alone are 5e-6
/// from the reference backend, whose sums are double; those of another backend can be as far on the
/// other side, and both can meet a worse case than this one by half.
constexpr double kTolerance = 2e-5;

WanVaeConfig config_of(const std::string& name) {
  WanVaeConfig config;
  config.num_res_blocks = 1;
  config.base_dim = 4;
  config.dim_mult = {1, 2, 3, 3};
  config.z_dim = 4;
  if (name == "wan22") {
    config.z_dim = 6;
    config.base_dim = 2;
    config.decoder_base_dim = 4;
    config.dim_mult = {1, 2, 4, 4};
    config.is_residual = true;
    config.in_channels = config.out_channels = 12;
    config.patch_size = 2;
    config.scale_factor_spatial = 16;
  }
  config.latents_mean.clear();
  config.latents_std.clear();
  for (std::int64_t i = 0; i < config.z_dim; ++i) {
    config.latents_mean.push_back(0.3 * (static_cast<double>(i) - 1.5));
    config.latents_std.push_back(0.5 + 0.4 * static_cast<double>(i));
  }
  return config;
}

/// The largest difference of two elements in each frame of [1, F, ...].
std::vector<double> frame_differences(const Tensor& actual, const Tensor& expected) {
  if (actual.shape() != expected.shape()) return {HUGE_VAL};
  const std::vector<float> a = to_floats(actual);
  const std::vector<float> b = to_floats(expected);
  std::vector<double> largest(static_cast<std::size_t>(expected.dim(1)));
  for (std::size_t i = 0; i < a.size(); ++i) {
    double& frame = largest[i * largest.size() / a.size()];
    frame = std::max(frame, std::abs(double{a[i]} - double{b[i]}));
  }
  return largest;
}

class WanVae : public testing::TestWithParam<std::string> {
 protected:
  Tensor golden(const std::string& what) const { return file_->read(GetParam() + "." + what); }
  template <typename Model>
  Model load(ops::Backend& backend, DType dtype) const {
    const PrefixedSource source(*file_, GetParam() + ".vae.");
    const WanVaeConfig config = config_of(GetParam());
    return golden::load<Model>(source, models::wan_vae_table(config), config, backend, dtype);
  }
  static Tensor decode(const WanVaeDecoder& decoder, const Tensor& latents, std::int64_t chunk) {
    std::vector<Tensor> frames;
    decoder(latents, [&](const Tensor& some) { frames.push_back(some); }, chunk);
    return ops::concat(frames, 1);
  }

  std::shared_ptr<const SafetensorsFile> file_ =
      SafetensorsFile::open(source_dir() / "tests/golden/wan/vae.safetensors");
};

INSTANTIATE_TEST_SUITE_P(Table, WanVae, testing::Values("wan21", "wan22"),
                         [](const auto& test) { return test.param; });

TEST_P(WanVae, DecodesEveryFrameWhateverTheChunks) {
  for (const std::string& name : backends()) {
    const auto backend = make_backend(name);
    const auto decoder = load<WanVaeDecoder>(*backend, DType::kF32);
    const Tensor latents = backend->upload(golden("latents"), DType::kF32);
    // The reference backend is slow and sees every path with two chunks.
    for (const std::int64_t chunk : name == "reference" ? std::vector<std::int64_t>{2}
                                                        : std::vector<std::int64_t>{1, 2, 3, 9}) {
      const auto differences =
          frame_differences(decode(decoder, latents, chunk), golden("decoded"));
      for (std::size_t i = 0; i < differences.size(); ++i) {
        EXPECT_LE(differences[i], kTolerance)
            << "frame " << i << " on " << name << " in chunks of " << chunk;
      }
      RecordProperty(fmt::format("{}_{}", name, chunk),
                     std::to_string(*std::ranges::max_element(differences)));
    }
  }
}

TEST_P(WanVae, EncodesEveryFrameWhateverTheChunks) {
  for (const std::string& name : backends()) {
    const auto backend = make_backend(name);
    const auto encoder = load<WanVaeEncoder>(*backend, DType::kF32);
    const Tensor video = backend->upload(file_->read("video"), DType::kF32);
    for (const std::int64_t chunk : name == "reference" ? std::vector<std::int64_t>{2}
                                                        : std::vector<std::int64_t>{1, 2, 3, 9}) {
      const auto differences = frame_differences(encoder(video, chunk), golden("encoded"));
      for (std::size_t i = 0; i < differences.size(); ++i) {
        EXPECT_LE(differences[i], kTolerance)
            << "frame " << i << " on " << name << " in chunks of " << chunk;
      }
    }
  }
}

// bfloat16 keeps 8 bits: thirty layers, each with a rounding or two of 2^-9 of its values, and
// norms between them that keep errors in proportion.
TEST_P(WanVae, BFloat16StaysClose) {
  for (const std::string& name : backends()) {
    if (name == "reference") continue;
    const auto backend = make_backend(name);
    const auto decoder = load<WanVaeDecoder>(*backend, DType::kBF16);
    const Tensor latents = backend->upload(golden("latents"), DType::kF32);
    EXPECT_LE(relative_l2(decode(decoder, latents, 1), golden("decoded")), 0.03) << name;
    const auto encoder = load<WanVaeEncoder>(*backend, DType::kBF16);
    const Tensor video = backend->upload(file_->read("video"), DType::kBF16);
    EXPECT_LE(relative_l2(encoder(video), golden("encoded")), 0.03) << name;
  }
}

TEST_P(WanVae, MemoryDoesNotGrowWithTheVideo) {
  const auto backend = make_backend("cpu");
  const auto decoder = load<WanVaeDecoder>(*backend, DType::kF32);
  const Tensor latents = backend->upload(golden("latents"), DType::kF32);
  const auto peak = [&](const Tensor& video) {
    backend->reset_peak_memory();
    decoder(video, [](const Tensor&) {});
    return backend->memory().peak_bytes;
  };
  const std::size_t three = peak(ops::contiguous(latents.slice(1, 0, 3)));
  const std::size_t ten = peak(ops::concat({latents, latents, latents.slice(1, 0, 2)}, 1));
  // What does grow are the latents themselves: seven frames more, of them, as they are denormalised
  // and as the decoder takes them, with all that the former makes meanwhile.
  EXPECT_LE(ten, three + 10 * (latents.bytes() / 4 * 7));
}

}  // namespace
}  // namespace dither::golden
