// Tiny Wan autoencoders against diffusers in float32: see make_micro_wan_vae.py and README.md.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "golden/golden.h"
#include "golden/micro_wan_vae.h"
#include "golden/seeded.h"
#include "models/vae/wan_autoencoder.h"
#include "models/vae/wan_memory.h"

namespace dither::golden {
namespace {

using models::WanVaeDecoder;
using models::WanVaeEncoder;

/// Of every element; values reach 3. The float32 sums of diffusers' thirty layers alone are 5e-6
/// from the reference backend, whose sums are double; those of another backend can be as far on the
/// other side, and both can meet a worse case than this one by half.
constexpr double kTolerance = 2e-5;

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
    const models::WanVaeConfig config = micro_wan_vae(GetParam());
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

/// bfloat16 keeps 8 bits: a rounding is off by 2^-9 of its value at most. The decoder has 32 layers
/// with weights one behind the other; each rounds its weights, its input (a norm's result), and its
/// own result once or, where bias and shortcut are a kernel of their own, twice. Norms keep errors
/// in proportion, and roundings know nothing of each other: they add as squares. That leaves out
/// the roundings of biases and norms' weights, which the CPU, whose result is rounded once, has
/// room for and a device, whose result is rounded twice, has not.
double bf16_error(std::string_view backend) {
  const int roundings = backend == "cuda" ? 6 : 4;
  return std::sqrt(32.0 * roundings) / 512;
}

double root_mean_square(const Tensor& tensor) {
  double squares = 0;
  for (const float value : to_floats(tensor)) squares += double{value} * value;
  return std::sqrt(squares / static_cast<double>(tensor.elements()));
}

/// 20 log10(2 / rmse) of frames cut to [-1, 1], whose range is 2.
double clamped_psnr_db(const Tensor& actual, const Tensor& expected) {
  const std::vector<float> a = to_floats(actual);
  const std::vector<float> b = to_floats(expected);
  double squares = 0;
  for (std::size_t i = 0; i < b.size(); ++i) {
    const double error = double{std::clamp(a.at(i), -1.0F, 1.0F)} - std::clamp(b[i], -1.0F, 1.0F);
    squares += error * error;
  }
  return 20 * std::log10(2 / std::sqrt(squares / static_cast<double>(b.size())));
}

TEST_P(WanVae, BFloat16StaysClose) {
  for (const std::string& name : backends()) {
    if (name == "reference") continue;
    const auto backend = make_backend(name);
    const auto decoder = load<WanVaeDecoder>(*backend, DType::kBF16);
    const Tensor decoded =
        decode(decoder, backend->upload(golden("latents"), DType::kF32), /*chunk=*/1);
    const double error = relative_l2(decoded, golden("decoded"));
    const double bound = bf16_error(name);
    EXPECT_LE(error, bound) << name;
    // Cutting makes no difference larger.
    const double psnr = clamped_psnr_db(decoded, golden("decoded"));
    EXPECT_GE(psnr, 20 * std::log10(2 / (bound * root_mean_square(golden("decoded"))))) << name;
    RecordProperty(name, fmt::format("relative L2 {:.4f}, {:.1f} dB", error, psnr));
    const auto encoder = load<WanVaeEncoder>(*backend, DType::kBF16);
    const Tensor video = backend->upload(file_->read("video"), DType::kBF16);
    const double encoded = relative_l2(encoder(video), golden("encoded"));
    EXPECT_LE(encoded, bound) << name;
    RecordProperty(name + "_encoder", fmt::format("relative L2 {:.4f}", encoded));
  }
}

// Scale and shift round to float32 once each, whatever the decoder then rounds to.
TEST_P(WanVae, LatentsAreDenormalisedInFloat32) {
  const auto backend = make_backend("reference");
  const auto config = micro_wan_vae(GetParam());
  const models::WanLatentStatistics statistics(*backend, config);
  const Tensor latents = backend->upload(golden("latents"), DType::kF32);
  const Tensor z = statistics.denormalize(latents);
  EXPECT_EQ(z.dtype(), DType::kF32);
  const std::vector<float> from = to_floats(latents);
  const std::vector<float> to = to_floats(z);
  for (std::size_t i = 0; i < from.size(); ++i) {
    const std::size_t c = i % static_cast<std::size_t>(config.z_dim);
    const double expected = from[i] * config.latents_std[c] + config.latents_mean[c];
    const double largest = std::abs(expected) + 2 * std::abs(config.latents_mean[c]);
    EXPECT_NEAR(to[i], expected, 4 * 0x1p-24 * largest);  // statistics are rounded, too
  }
}

// The plan of the device's memory rests on it. What is not counted are the latents, as they come,
// in float32 and in the decoder's dtype, and that every tensor starts at a multiple of 512 bytes.
// On the reference backend: oneDNN takes scratch, how much depends on the processor.
TEST_P(WanVae, MemoryIsWhatIsPlanned) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const auto backend = make_backend("reference");
    const auto decoder = load<WanVaeDecoder>(*backend, dtype);
    const Tensor latents = backend->upload(golden("latents"), DType::kF32);
    const std::size_t before = backend->memory().allocated_bytes;
    backend->reset_peak_memory();
    decoder(latents, [](const Tensor&) {});
    const std::int64_t pixels = latents.dim(2) * latents.dim(3);
    const auto [history, working] = models::wan_decoder_elements(
        micro_wan_vae(GetParam()), pixels,
        [&](std::int64_t channels) { return backend->conv3d_row_channels(channels, dtype); });
    const auto planned = static_cast<double>((history + working) * dtype_bits(dtype) / 8);
    const auto taken = static_cast<double>(backend->memory().peak_bytes - before);
    RecordProperty(std::string(dtype_name(dtype)), std::to_string(taken / planned));
    constexpr std::size_t kTensors = 32;
    EXPECT_GE(taken, planned);
    EXPECT_LE(taken, planned + static_cast<double>(3 * latents.bytes() + kTensors * 512));
  }
}

// Of more channels than a patch has, as real ones have them. Not counted are latents, of which
// every chunk leaves some, and that tensors start at multiples: two percent here.
TEST_P(WanVae, EncodersMemoryIsWhatIsPlanned) {
  constexpr std::int64_t kFrames = 9;
  models::WanVaeConfig config = micro_wan_vae(GetParam());
  config.base_dim = 16;
  const std::int64_t whole_side = 4 * config.scale_factor_spatial;
  const SeededSource source(models::wan_vae_table(config), GetParam() + ".");
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const auto backend = make_backend("reference");
    const WanVaeEncoder encoder(nn::WeightScope(source, *backend, dtype), config);
    const Tensor video =
        backend->upload(Tensor::host({1, kFrames, whole_side, whole_side, 3}, DType::kF32), dtype);
    const auto planned = [&](std::int64_t side) {
      side /= config.scale_factor_spatial;
      const auto [history, working] = models::wan_encoder_elements(
          config, side * side, kFrames,
          [&](std::int64_t channels) { return backend->conv3d_row_channels(channels, dtype); });
      return static_cast<double>((history + working) * dtype_bits(dtype) / 8);
    };
    const auto taken_by = [&](const std::function<Tensor()>& encode) {
      const std::size_t before = backend->memory().allocated_bytes;
      backend->reset_peak_memory();
      encode();
      return static_cast<double>(backend->memory().peak_bytes - before);
    };
    const double whole = taken_by([&] { return encoder(video); });
    RecordProperty(std::string(dtype_name(dtype)), std::to_string(whole / planned(whole_side)));
    EXPECT_GE(whole, planned(whole_side));
    EXPECT_LE(whole, 1.02 * planned(whole_side));
    // A square has its own, and its part of the frames of a chunk.
    const std::int64_t tile = whole_side / 2;
    const auto frames = [&](std::int64_t begin, std::int64_t end) {
      return video.slice(1, begin, end);
    };
    const double tiled =
        taken_by([&] { return encoder.in_tiles(kFrames, frames, {tile, tile / 2}); });
    EXPECT_GE(tiled, planned(tile));
    EXPECT_LE(tiled, 1.02 * planned(tile) + static_cast<double>(video.bytes()) / 4);
  }
}

TEST_P(WanVae, MemoryDoesNotGrowWithTheVideo) {
  const auto backend = make_backend("reference");
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
