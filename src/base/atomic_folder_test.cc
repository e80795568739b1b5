#include "base/atomic_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/atomic_file.h"
#include "base/test_util.h"

namespace dither {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::UnorderedElementsAre;

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) {
    names.push_back(entry.path().filename().string());
  }
  return names;
}

TEST(AtomicFolder, AppearsWhenCommitted) {
  const TempFolder temp;
  AtomicFolder folder(temp.path() / "new/out/");
  write_file(folder.temporary() / "a", "text");
  EXPECT_FALSE(fs::exists(temp.path() / "new/out"));
  folder.commit(AtomicFolder::Existing::kKeep);
  EXPECT_EQ(read_text_file(temp.path() / "new/out/a", 100), "text");
  EXPECT_THAT(names_in(temp.path() / "new"), ElementsAre("out"));
}

TEST(AtomicFolder, LeavesNothingWhenDestroyed) {
  const TempFolder temp;
  {
    const AtomicFolder folder(temp.path() / "out");
    write_file(folder.temporary() / "a", "text");
  }
  EXPECT_THAT(names_in(temp.path()), ElementsAre());
}

TEST(AtomicFolder, ReplacesAFolderWhole) {
  const TempFolder temp;
  temp.write("out/old", "old");
  {
    AtomicFolder folder(temp.path() / "out");
    write_file(folder.temporary() / "new", "new");
    folder.commit(AtomicFolder::Existing::kReplace);
  }
  EXPECT_THAT(names_in(temp.path()), ElementsAre("out"));
  EXPECT_THAT(names_in(temp.path() / "out"), ElementsAre("new"));
}

TEST(AtomicFolder, KeepsAFolderThatAppearedMeanwhile) {
  const TempFolder temp;
  {
    AtomicFolder folder(temp.path() / "out");
    fs::create_directory(temp.path() / "out");
    const Error error = error_of([&] { folder.commit(AtomicFolder::Existing::kKeep); });
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    EXPECT_THAT(error.what(), HasSubstr("already exists"));
  }
  EXPECT_THAT(names_in(temp.path()), ElementsAre("out"));
}

TEST(AtomicFolder, NeedsAName) {
  for (const char* path : {"", "/", ".", "a/.."}) {
    EXPECT_EQ(error_of([&] { const AtomicFolder folder{fs::path(path)}; }).code(),
              ErrorCode::kInvalidArgument)
        << path;
  }
}

}  // namespace
}  // namespace dither
