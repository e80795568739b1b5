#include "ops/region.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace dither::ops {
namespace {

TEST(RegionStack, PathNamesTheOpenRegions) {
  RegionStack stack;
  std::vector<std::string> paths = {stack.path()};
  const auto begin = [&](const char* name) {
    stack.begin(name);
    paths.push_back(stack.path());
  };
  const auto end = [&] {
    stack.end();
    paths.push_back(stack.path());
  };
  begin("DenoisingStage");
  begin("step 1");
  begin("transformer_blocks.3");
  end();
  begin("norm_out");
  end();
  end();
  end();
  begin("");  // a name of nothing is left like any other
  begin("DecodingStage");
  end();
  end();
  EXPECT_EQ(paths, (std::vector<std::string>{
                       "", "DenoisingStage", "DenoisingStage/step 1",
                       "DenoisingStage/step 1/transformer_blocks.3", "DenoisingStage/step 1",
                       "DenoisingStage/step 1/norm_out", "DenoisingStage/step 1", "DenoisingStage",
                       "", "", "DecodingStage", "", ""}));
}

TEST(RegionStack, AnEndTooManyIsIgnored) {
  RegionStack stack;
  stack.end();
  stack.begin("a");
  EXPECT_EQ(stack.path(), "a");
}

}  // namespace
}  // namespace dither::ops
