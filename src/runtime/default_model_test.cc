#include "runtime/default_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "base/test_util.h"

namespace dither {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// $DITHER_MODEL for one test.
class Variable {
 public:
  explicit Variable(const std::string& value) { ::setenv("DITHER_MODEL", value.c_str(), 1); }
  ~Variable() { ::unsetenv("DITHER_MODEL"); }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;
};

TEST(DefaultModel, VariableComesFirstAndAlone) {
  const TempFolder folder;
  const Variable variable(folder.path().string());
  EXPECT_THAT(default_model_candidates(), ElementsAre(folder.path()));
  const Error error = error_of([] { find_default_model(); });
  EXPECT_EQ(error.code(), ErrorCode::kNotFound);
  EXPECT_THAT(error.what(), AllOf(HasSubstr(folder.path().string()), HasSubstr("--model-path")));
  folder.write("model_index.json", "{}");
  EXPECT_EQ(find_default_model(), folder.path());
}

TEST(DefaultModel, LiesBesideTheProgram) {
  const Variable variable("");
  EXPECT_THAT(default_model_candidates().at(0).string(),
              HasSubstr("share/dither/models/emoji-flux"));
}

}  // namespace
}  // namespace dither
