#include "quant/profile.h"

#include <gtest/gtest.h>

namespace dither::quant {
namespace {

TEST(Profile, IsFoundByNameAndClass) {
  ASSERT_NE(find_profile("flux1"), nullptr);
  EXPECT_EQ(find_profile("flux1"), profile_of_class("FluxTransformer2DModel"));
  EXPECT_EQ(find_profile("flux2"), profile_of_class("Flux2Transformer2DModel"));
  EXPECT_EQ(find_profile("wan"), nullptr);
  EXPECT_EQ(profile_of_class("WanTransformer3DModel"), nullptr);
}

TEST(Profile, MatchesWholeNamesWithAnyIndex) {
  const struct {
    const char* profile;
    const char* layer;
    bool keeps;
  } table[] = {
      {"flux1", "transformer_blocks.0.norm1.linear", true},
      {"flux1", "transformer_blocks.18.ff_context.net.0.proj", true},
      {"flux1", "single_transformer_blocks.37.norm.linear", true},
      {"flux1", "single_transformer_blocks.37.proj_mlp", false},
      {"flux1", "single_transformer_blocks.3.ff.net.2", false},
      {"flux1", "transformer_blocks.x.ff.net.2", false},
      {"flux1", "transformer_blocks..ff.net.2", false},
      {"flux1", "transformer_blocks.0.ff.net.2.extra", false},
      {"flux1", "transformer_blocks.0.attn.to_q", false},
      {"flux1", "transformer_blocks.", false},
      {"flux2", "x_embedder", true},
      {"flux2", "double_stream_modulation_txt.linear", true},
      {"flux2", "proj_out", false},
  };
  for (const auto& row : table) {
    EXPECT_EQ(keeps_16_bit(*find_profile(row.profile), row.layer), row.keeps) << row.layer;
  }
}

}  // namespace
}  // namespace dither::quant
