// Decoding and encoding in overlapping tiles against diffusers in float32: see make_vae_tiles.py
// and README.md.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "golden/golden.h"
#include "golden/micro_wan_vae.h"
#include "golden/seeded.h"
#include "models/vae/autoencoder_kl.h"
#include "models/vae/tiles.h"
#include "models/vae/wan_autoencoder.h"
#include "models/vae/wan_memory.h"

namespace dither::golden {
namespace {

using models::VaeTiles;
using models::WanVaeDecoder;

/// As the decoders' own tests have it, of every element; a joint adds three roundings.
constexpr double kTolerance = 2e-5;
constexpr std::size_t kEvery = 41;

/// What on_tile was given, in its place.
class Canvas {
 public:
  Canvas(ops::Backend& backend, const Shape& shape)
      : pixels_(Tensor::empty(shape, DType::kF32, backend)) {}

  models::OnTile on_tile() {
    return [this](const Tensor& tile, std::int64_t top, std::int64_t left) {
      filled_ += tile.elements();
      ops::copy(ops::cast(ops::contiguous(tile), DType::kF32),
                pixels_.slice(-3, top, top + tile.dim(-3)).slice(-2, left, left + tile.dim(-2)));
    };
  }
  /// Whether each element was written, and once if all were written.
  bool full() const { return filled_ == pixels_.elements(); }
  const Tensor& pixels() const { return pixels_; }

 private:
  Tensor pixels_;
  std::int64_t filled_ = 0;
};

/// The largest difference to the golden, which has every `every`-th element.
double difference(const Tensor& actual, const std::string& name, std::size_t every = kEvery) {
  const auto file = SafetensorsFile::open(source_dir() / "tests/golden/vae_tiles.safetensors");
  const std::vector<float> all = to_floats(actual);
  const std::vector<float> expected = to_floats(file->read(name));
  if ((all.size() + every - 1) / every != expected.size()) return HUGE_VAL;
  double largest = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    largest = std::max(largest, std::abs(double{all[i * every]} - double{expected[i]}));
  }
  return largest;
}

struct WanCase {
  const char* name;
  Shape latents;
  VaeTiles tiles;
  Shape frames;
  Shape video;  ///< that is encoded
  VaeTiles encoded_tiles;
};

class WanTiles : public testing::TestWithParam<WanCase> {
 protected:
  template <typename Half>
  static Half half(ops::Backend& backend, DType dtype) {
    const auto file = SafetensorsFile::open(source_dir() / "tests/golden/wan/vae.safetensors");
    const PrefixedSource source(*file, std::string(GetParam().name) + ".vae.");
    const models::WanVaeConfig config = micro_wan_vae(GetParam().name);
    return load<Half>(source, models::wan_vae_table(config), config, backend, dtype);
  }
  static WanVaeDecoder decoder(ops::Backend& backend, DType dtype) {
    return half<WanVaeDecoder>(backend, dtype);
  }
  static Tensor latents(ops::Backend& backend, const Shape& shape) {
    const std::string name = GetParam().name;
    return backend.upload(seeded(name + ".latents", shape), DType::kF32);
  }
};

INSTANTIATE_TEST_SUITE_P(
    Table, WanTiles,
    testing::Values(
        WanCase{"wan21", {1, 2, 5, 7, 4}, {4, 3}, {1, 5, 40, 56, 3}, {1, 5, 40, 56, 3}, {32, 24}},
        WanCase{"wan22", {1, 2, 3, 4, 6}, {2, 1}, {1, 5, 48, 64, 3}, {1, 5, 96, 128, 3}, {64, 32}}),
    [](const auto& test) { return test.param.name; });

TEST_P(WanTiles, AreDiffusers) {
  for (const std::string& name : backends()) {
    const auto backend = make_backend(name);
    Canvas canvas(*backend, GetParam().frames);
    decoder(*backend, DType::kF32)
        .in_tiles(latents(*backend, GetParam().latents), GetParam().tiles, canvas.on_tile());
    EXPECT_TRUE(canvas.full());
    EXPECT_LE(difference(canvas.pixels(), GetParam().name), kTolerance) << name;
  }
}

TEST_P(WanTiles, OfAVideoThatIsEncodedAreDiffusers) {
  for (const std::string& name : backends()) {
    const auto backend = make_backend(name);
    const auto encoder = half<models::WanVaeEncoder>(*backend, DType::kF32);
    const auto& [of, latents, tiles, frames, shape, encoded_tiles] = GetParam();
    const Tensor video = backend->upload(seeded(std::string(of) + ".video", shape), DType::kF32);
    const auto some = [&](std::int64_t begin, std::int64_t end) {
      return video.slice(1, begin, end);
    };
    EXPECT_LE(difference(encoder.in_tiles(shape[1], some, encoded_tiles),
                         std::string(of) + ".encoded", 1),
              kTolerance)
        << name;
    EXPECT_EQ(to_floats(encoder.in_tiles(shape[1], some, {128, 128})), to_floats(encoder(video)));
  }
}

TEST_P(WanTiles, OneTileIsTheWholeVideo) {
  const auto backend = make_backend("cpu");
  const WanVaeDecoder decode = decoder(*backend, DType::kBF16);
  const Tensor video = latents(*backend, GetParam().latents);
  Canvas canvas(*backend, GetParam().frames);
  decode.in_tiles(video, {8, 7}, canvas.on_tile());
  std::vector<Tensor> frames;
  decode(video, [&](const Tensor& some) { frames.push_back(some); });
  EXPECT_TRUE(canvas.full());
  EXPECT_EQ(to_floats(canvas.pixels()), to_floats(ops::concat(frames, 1)));
}

// At the sizes that are used, which no picture of another test reaches: what the plan of memory
// makes room for is enough, and does not depend on the video's width but for a row's overlaps.
TEST_P(WanTiles, MemoryIsAtMostWhatIsPlanned) {
  const models::WanVaeConfig config = micro_wan_vae(GetParam().name);
  const auto [size, stride] = config.tiles();
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    // A processor without bfloat16 has copies in float32 beside, which no device has.
    if (product_dtype("cpu", dtype) != dtype) continue;
    const auto backend = make_backend("cpu");
    const WanVaeDecoder decode = decoder(*backend, dtype);
    for (const auto& [frames, height, width] : std::vector<std::array<std::int64_t, 3>>{
             {1, size + 3, size + 1}, {2, 2 * stride, 3 * stride - 1}}) {
      const Tensor video = latents(*backend, {1, frames, height, width, config.z_dim});
      const std::size_t before = backend->memory().allocated_bytes;
      backend->reset_peak_memory();
      decode.in_tiles(video, config.tiles(), [](const Tensor&, std::int64_t, std::int64_t) {});
      const auto taken = static_cast<double>(backend->memory().peak_bytes - before);
      const auto [history, working] = models::wan_decoder_elements(
          config, size * size,
          [&](std::int64_t channels) { return backend->conv3d_row_channels(channels, dtype); });
      const std::int64_t joined = models::wan_tile_elements(config, frames, height, width);
      const auto planned =
          static_cast<double>((history + working + joined) * dtype_bits(dtype) / 8);
      constexpr std::size_t kTensors = 64;
      EXPECT_LE(taken, planned + static_cast<double>(3 * video.bytes() + kTensors * 512));
      EXPECT_GE(taken, planned / 4);
    }
  }
}

/// A decoder whose pixels depend on no neighbour leaves nothing of the joints, for any extent.
TEST(DecodeTiles, JointsOfTheSameAreInvisible) {
  const auto backend = make_backend("cpu");
  for (const VaeTiles& tiles : {VaeTiles{4, 3}, VaeTiles{4, 1}, VaeTiles{3, 3}, VaeTiles{9, 5}}) {
    for (const Shape& shape : {Shape{2, 5, 7, 3}, Shape{1, 4, 4, 1}, Shape{1, 1, 9, 2},
                               Shape{1, 2, 9, 1, 4}, Shape{1, 6, 3, 2}}) {
      const Tensor x = backend->upload(seeded("tiles", shape), DType::kF32);
      Canvas canvas(*backend, shape);
      models::decode_tiles(
          x, tiles, 1, [](const Tensor& z) { return ops::affine(z, 1, 0); }, canvas.on_tile());
      EXPECT_TRUE(canvas.full());
      EXPECT_LE(relative_l2(canvas.pixels(), x), 1e-7) << to_string(x) << ", " << tiles.size;
    }
  }
}

TEST(DecodeTiles, RefusesImpossibleTiles) {
  const auto backend = make_backend("cpu");
  const Tensor x = backend->upload(seeded("tiles", {1, 4, 4, 1}), DType::kF32);
  for (const VaeTiles& tiles : {VaeTiles{0, 0}, VaeTiles{4, 0}, VaeTiles{4, -1}, VaeTiles{3, 4}}) {
    EXPECT_THROW(models::decode_tiles(
                     x, tiles, 1, [](const Tensor& z) { return z; },
                     [](const Tensor&, std::int64_t, std::int64_t) {}),
                 Error);
  }
}

class PictureTiles : public testing::TestWithParam<std::string> {};

INSTANTIATE_TEST_SUITE_P(Backends, PictureTiles, testing::ValuesIn(backends()), backend_name);

TEST_P(PictureTiles, AreDiffusers) {
  const models::AutoencoderKlConfig config = {.latent_channels = 4,
                                              .block_out_channels = {8, 16, 16, 24},
                                              .layers_per_block = 1,
                                              .norm_num_groups = 8,
                                              .use_quant_conv = true,
                                              .use_post_quant_conv = true,
                                              .sample_size = 32};
  const auto backend = make_backend(GetParam());
  const SeededSource names({}, "kl.");
  const nn::TensorTable table = models::autoencoder_kl_table(config, names);
  const SeededSource source(table, "kl.");
  const auto decoder =
      load<models::AutoencoderKlDecoder>(source, table, config, *backend, DType::kF32);
  const Tensor latents = backend->upload(seeded("kl.latents", {1, 7, 11, 4}), DType::kF32);
  ASSERT_TRUE(models::exceeds(config.tiles(), latents));
  Canvas canvas(*backend, {1, 56, 88, 3});
  models::decode_tiles(
      latents, config.tiles(), config.vae_scale_factor(),
      [&](const Tensor& z) { return decoder(z); }, canvas.on_tile());
  EXPECT_TRUE(canvas.full());
  // Values reach 9, three times those of the others.
  EXPECT_LE(difference(canvas.pixels(), "kl"), 3 * kTolerance);
}

}  // namespace
}  // namespace dither::golden
