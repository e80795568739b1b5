// Which weights a pipeline of two experts asks for, and when: on a device that only keeps a list.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "backends/cpu/cpu_backend.h"
#include "base/error.h"
#include "ops/turn_layout.h"
#include "runtime/forwarding_backend.h"
#include "runtime/load.h"

namespace dither {
namespace {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::IsEmpty;

using Log = std::vector<std::string>;

/// Weights that are all there; says what a device would copy if all parts had one byte.
class ListedTurns final : public ops::WeightTurns {
 public:
  explicit ListedTurns(Log& log) : log_(log) {}

  std::size_t add(int turn, const std::function<void()>& prepare) override {
    prepare();
    return layout_.add(turn, 1);
  }
  void come(int turn) override {
    log_.push_back(fmt::format("turn {}: {} parts", turn, layout_.come(turn).size()));
  }
  void expect_last_uses(int uses) override {
    log_.push_back(fmt::format("last uses: {}", uses));
    layout_.expect_last_uses(uses);
  }
  void used(std::size_t part) override {
    for (const std::size_t coming : layout_.used(part)) {
      log_.push_back(fmt::format("part {} after {}", coming, part));
    }
  }
  void leave() override {
    log_.emplace_back("leave");
    layout_.leave();
  }

 private:
  Log& log_;
  ops::TurnLayout layout_;
};

class ListingBackend final : public ForwardingBackend {
 public:
  explicit ListingBackend(Log& log) : ForwardingBackend(cpu::make_cpu_backend()), log_(log) {}

  std::unique_ptr<ops::WeightTurns> take_turns() override {
    return std::make_unique<ListedTurns>(log_);
  }
  std::optional<std::size_t> available_memory() const override { return std::size_t{1} << 36U; }

 private:
  Log& log_;
};

class ExpertTurns : public testing::Test {
 protected:
  static LoadedPipeline load(std::unique_ptr<ops::Backend> backend, bool offload) {
    LoadOptions options{.model_path =
                            std::filesystem::path(DITHER_SOURCE_DIR) / "tests/golden/wan/pipeline"};
    options.pipeline.offload.dit_cpu_offload = offload;
    return load_pipeline(options, std::move(backend));
  }
  std::vector<Image> film(const LoadedPipeline& loaded) const {
    return std::move(loaded.pipeline->generate(request_, {}).outputs.back().frames);
  }

  Log log_;
  GenerateRequest request_ = {.prompt = "a red fox", .num_inference_steps = 4, .seed = 7};
};

/// Of either expert: two blocks, the text's projections of each before it, and the rest. Blocks of
/// the second come behind those of the first; the others when the experts change.
const Log kOnce = {"turn 0: 5 parts", "last uses: 2",    "part 6 after 1",
                   "part 8 after 3",  "turn 1: 3 parts", "leave"};

TEST_F(ExpertTurns, TheSecondExpertComesInTheLastStepOfTheFirst) {
  const std::vector<Image> frames = film(load(cpu::make_cpu_backend(), false));
  const LoadedPipeline loaded = load(std::make_unique<ListingBackend>(log_), true);
  EXPECT_THAT(log_, IsEmpty());
  EXPECT_EQ(film(loaded), frames);
  EXPECT_THAT(log_, ElementsAreArray(kOnce));
  log_.clear();
  request_.num_outputs_per_prompt = 2;
  film(loaded);
  Log twice = kOnce;
  twice.insert(twice.end(), kOnce.begin(), kOnce.end());
  EXPECT_THAT(log_, ElementsAreArray(twice));
}

TEST_F(ExpertTurns, WithoutGuidanceTheFirstPassIsTheLast) {
  request_.guidance_scale = 1;
  film(load(std::make_unique<ListingBackend>(log_), true));
  Log once = kOnce;
  once[1] = "last uses: 1";
  EXPECT_THAT(log_, ElementsAreArray(once));
}

TEST_F(ExpertTurns, WhatIsCancelledLeaves) {
  const LoadedPipeline loaded = load(std::make_unique<ListingBackend>(log_), true);
  const auto stop = [&](const Progress&) { return log_.size() < 2; };  // behind the last step
  EXPECT_THROW(loaded.pipeline->generate(request_, stop), Error);
  EXPECT_THAT(log_, ElementsAre(kOnce[0], kOnce[1], kOnce[2], kOnce[3], "leave"));
  log_.clear();
  film(loaded);
  EXPECT_THAT(log_, ElementsAreArray(kOnce));
}

TEST_F(ExpertTurns, ResidentExpertsTakeNone) {
  film(load(std::make_unique<ListingBackend>(log_), false));
  EXPECT_THAT(log_, IsEmpty());
}

}  // namespace
}  // namespace dither
