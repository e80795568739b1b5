#include "pipelines/component_loading.h"

#include <gtest/gtest.h>

#include "base/test_util.h"

namespace dither {
namespace {

TEST(PlannedDefaults, AreOfTheRequestWhereItSaysAndOfTheModelElse) {
  const auto folder = ModelFolder::open(std::filesystem::path(DITHER_SOURCE_DIR) /
                                        "models/configs/wan2.2-t2v-a14b");
  PipelineOptions options;
  options.planned_output.width = 1280;
  options.planned_output.num_frames = 33;
  const GenerationDefaults planned = planned_defaults(folder, options);
  EXPECT_EQ(planned.width, 1280);
  EXPECT_EQ(planned.height, folder.defaults().height);
  EXPECT_EQ(planned.num_frames, 33);
}

TEST(PlannedDefaults, LeaveOutWhatNoRequestMayHave) {
  const auto folder = ModelFolder::open(std::filesystem::path(DITHER_SOURCE_DIR) /
                                        "models/configs/wan2.2-t2v-a14b");
  PipelineOptions options;
  options.planned_output.width = 0;
  options.planned_output.height = -16;
  options.planned_output.num_frames = 2'000'000'001;
  const GenerationDefaults planned = planned_defaults(folder, options);
  EXPECT_EQ(planned.width, folder.defaults().width);
  EXPECT_EQ(planned.height, folder.defaults().height);
  EXPECT_EQ(planned.num_frames, folder.defaults().num_frames);
}

}  // namespace
}  // namespace dither
