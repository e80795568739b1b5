#include "pipelines/component_loading.h"

#include <gtest/gtest.h>

#include "base/test_util.h"

namespace dither {
namespace {

TEST(PlannedDefaults, AreOfTheRequestWhereItSaysAndOfTheModelElse) {
  const auto folder = ModelFolder::open(std::filesystem::path(DITHER_SOURCE_DIR) /
                                        "models/configs/wan2.2-t2v-a14b");
  PipelineOptions options;
  options.planned.width = 1280;
  options.planned.num_frames = 33;
  const GenerationDefaults planned = planned_defaults(folder, options);
  EXPECT_EQ(planned.width, 1280);
  EXPECT_EQ(planned.height, folder.defaults().height);
  EXPECT_EQ(planned.num_frames, 33);
}

TEST(PlannedDefaults, LeaveOutWhatNoRequestMayHave) {
  const auto folder = ModelFolder::open(std::filesystem::path(DITHER_SOURCE_DIR) /
                                        "models/configs/wan2.2-t2v-a14b");
  PipelineOptions options;
  options.planned.width = 0;
  options.planned.height = -16;
  options.planned.num_frames = 2'000'000'001;
  const GenerationDefaults planned = planned_defaults(folder, options);
  EXPECT_EQ(planned.width, folder.defaults().width);
  EXPECT_EQ(planned.height, folder.defaults().height);
  EXPECT_EQ(planned.num_frames, folder.defaults().num_frames);
}

TEST(FlowActivationBytes, OfReferencesAreTokensOfEveryStepAndEncodedLikeThePicture) {
  GenerationDefaults picture;
  picture.width = 64;
  picture.height = 64;
  picture.max_sequence_length = 8;
  FlowSizes sizes{.width = 10,
                  .row_widths = 3,
                  .patch = 16,
                  .vae_channels = 5,
                  .vae_tile = 32,
                  .text_bytes = 7};
  const auto bytes = [&] {
    return flow_activation_bytes(sizes, picture, DType::kBF16, DType::kF32);
  };
  const ActivationBytes alone = bytes();
  sizes.vae_tiling = true;
  EXPECT_EQ(bytes().decoding, alone.tiled_decoding);
  EXPECT_EQ(alone.decoding - bytes().decoding, 3 * (64 * 64 - 32 * 32) * 5 * sizeof(float));
  sizes.vae_tiling = false;
  sizes.references = {{32, 48}, {160, 16}};
  const ActivationBytes with = bytes();
  constexpr std::size_t kStep = (2 * 3 + 10 * 1) * 3 * 10 * 2;  // tokens x rows x width x bf16
  EXPECT_EQ(with.text_encoding - alone.text_encoding, kStep);
  EXPECT_EQ(with.denoising - alone.denoising, 2 * kStep);
  EXPECT_EQ(with.decoding - alone.decoding, kStep) << "the picture is larger than either";
  sizes.references = {{128, 64}};
  EXPECT_EQ(bytes().decoding - alone.decoding,
            8 * 4 * 3 * 10 * 2 + 3 * (128 * 64 - 64 * 64) * 5 * sizeof(float));
}

}  // namespace
}  // namespace dither
