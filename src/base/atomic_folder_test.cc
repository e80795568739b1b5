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

TEST(AtomicFolder, LeavesNoParentThatItCreated) {
  const TempFolder temp;
  {
    const AtomicFolder folder(temp.path() / "a/b/out");
  }
  EXPECT_THAT(names_in(temp.path()), ElementsAre());
  fs::create_directory(temp.path() / "a");
  {
    const AtomicFolder folder(temp.path() / "a/b/out");
  }
  EXPECT_THAT(names_in(temp.path()), ElementsAre("a"));
}

TEST(AtomicFolder, DeletesWhatAKilledWriterLeft) {
  const TempFolder temp;
  temp.write("out.tmp-123-0/half", "half");
  temp.write("out.tmp-123-0.old/mine", "a result moved aside");
  temp.write("out.tmp-1-x/mine", "not a writer's");
  temp.write("other.tmp-1-0/half", "of another folder");
  temp.write("out.tmp-5-1", "a file");
  fs::create_directory_symlink(temp.path() / "other.tmp-1-0", temp.path() / "out.tmp-6-0");
  const AtomicFolder living(temp.path() / "out");
  const AtomicFolder other(temp.path() / "out");
  EXPECT_THAT(names_in(temp.path()),
              UnorderedElementsAre("out.tmp-123-0.old", "out.tmp-1-x", "other.tmp-1-0",
                                   "out.tmp-5-1", "out.tmp-6-0", living.temporary().filename(),
                                   other.temporary().filename()));
  EXPECT_TRUE(fs::exists(temp.path() / "other.tmp-1-0/half"));
}

TEST(CheckSpace, ComparesWithWhatIsFree) {
  const TempFolder temp;
  check_space(temp.path() / "new/folder", 1);
  EXPECT_EQ(error_of([&] { check_space(temp.path() / "new/folder", ~std::uint64_t{0}); }).code(),
            ErrorCode::kResourceExhausted);
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
