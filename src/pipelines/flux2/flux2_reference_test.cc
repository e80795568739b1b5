#include "pipelines/flux2/flux2_reference.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/test_util.h"

namespace dither {
namespace {

using ::testing::HasSubstr;

struct SizeCase {
  int width, height;
  ImageSize prepared;
  ReferenceLimit limit = ReferenceLimit::kDiffusers;
  std::size_t references = 1;
};

// By hand: 2000 x 1000 is scaled by sqrt(1024^2 / 2e6) = 0.724077 to 1448 x 724; 3000 x 1500 by
// 2024 / sqrt(4.5e6) = 0.954123 to 2862 x 1431, or by 1024 / sqrt(4.5e6) = 0.482718 to 1448 x 724.
TEST(Flux2Reference, IsShrunkAndCut) {
  const SizeCase table[] = {{64, 64, {64, 64}},
                            {85, 70, {80, 64}},
                            {1024, 1024, {1024, 1024}},
                            {2000, 1000, {1440, 720}},
                            {2000, 1000, {2000, 992}, ReferenceLimit::kBfl, 1},
                            {2000, 1000, {1440, 720}, ReferenceLimit::kBfl, 2},
                            {3000, 1500, {2848, 1424}, ReferenceLimit::kBfl, 1},
                            {3000, 1500, {1440, 720}, ReferenceLimit::kBfl, 16},
                            {2024, 2024, {2016, 2016}, ReferenceLimit::kBfl, 1}};
  for (const SizeCase& row : table) {
    const Image image = solid_image(row.width, row.height, 90);
    GenerateRequest request{.references = {row.references, {.path = "", .image = image}},
                            .reference_limit = row.limit};
    const ReferencePreparation prepare = reference_preparation(extent_of(request), 16);
    EXPECT_EQ(prepare.size({image.width, image.height}), row.prepared);
    EXPECT_EQ(prepare(image), solid_image(row.prepared.width, row.prepared.height, 90));
  }
}

TEST(Flux2Reference, HasBounds) {
  const auto refusal = [](int width, int height) {
    return error_of(
        [&] { check_references({{.path = "cat.png", .image = solid_image(width, height, 0)}}); });
  };
  for (const auto& [width, height] : {std::pair{63, 100}, {100, 63}, {64, 513}, {513, 64}}) {
    EXPECT_EQ(refusal(width, height).code(), ErrorCode::kInvalidArgument);
    EXPECT_THAT(refusal(width, height).what(), HasSubstr("image-path 'cat.png'"));
  }
  check_references({{.path = "cat.png", .image = solid_image(512, 64, 0)}});
  const std::vector<ReferenceImage> many(17, {.path = "", .image = solid_image(64, 64, 0)});
  EXPECT_THAT(error_of([&] { check_references(many); }).what(), HasSubstr("at most 16"));
}

}  // namespace
}  // namespace dither
