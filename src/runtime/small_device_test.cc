// A model of the true shapes on a device that has too little memory: refused before a weight is
// made, with what would fit.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <filesystem>
#include <memory>
#include <utility>

#include "backends/cpu/cpu_backend.h"
#include "base/test_util.h"
#include "runtime/forwarding_backend.h"
#include "runtime/load.h"

namespace dither {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Values;

class SmallDevice final : public ForwardingBackend {
 public:
  explicit SmallDevice(std::size_t bytes)
      : ForwardingBackend(cpu::make_cpu_backend()), bytes_(bytes) {}
  std::optional<std::size_t> available_memory() const override { return bytes_; }

 private:
  std::size_t bytes_;
};

struct SmallCase {
  const char* model;
  int side;         ///< pixels
  std::size_t mib;  ///< enough for every stage but decoding the whole picture
};

void PrintTo(const SmallCase& test, std::ostream* out) { *out << test.model; }

class SmallDevices : public ::testing::TestWithParam<SmallCase> {};

TEST_P(SmallDevices, TilingIsNamedWhereItWouldDo) {
  const auto [model, side, mib] = GetParam();
  const std::filesystem::path folder =
      std::filesystem::path(DITHER_SOURCE_DIR) / "models/configs" / model;
  const LoadOptions options = {
      .model_path = folder,
      .dtype = DType::kBF16,
      .pipeline = {.format = LoadFormat::kDummy, .planned = {.width = side, .height = side}}};
  const Error refused =
      error_of([&] { load_pipeline(options, std::make_unique<SmallDevice>(mib << 20U)); });
  EXPECT_EQ(refused.code(), ErrorCode::kResourceExhausted);
  EXPECT_THAT(refused.what(), AllOf(HasSubstr("DecodingStage needs"), HasSubstr("MiB are missing"),
                                    HasSubstr("with --vae-tiling")));
}

INSTANTIATE_TEST_SUITE_P(Families, SmallDevices,
                         Values(SmallCase{"flux1-dev", 2048, 9000},
                                SmallCase{"flux2-klein-4b", 2048, 9000},
                                SmallCase{"wan2.1-t2v-1.3b", 768, 8000}));

}  // namespace
}  // namespace dither
