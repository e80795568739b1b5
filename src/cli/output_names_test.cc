#include "cli/output_names.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/atomic_file.h"
#include "base/error.h"

namespace dither::cli {
namespace {
namespace fs = std::filesystem;

TEST(Slug, KeepsWhatAFileNameMayHold) {
  EXPECT_EQ(slug("A red apple!"), "a_red_apple");
  EXPECT_EQ(slug("  ../etc/passwd  "), "etc_passwd");
  EXPECT_EQ(slug("\xE7\x8C\xAB"), "\xE7\x8C\xAB");  // a cat in Chinese
  EXPECT_EQ(slug(""), "picture");
  EXPECT_EQ(slug("?!"), "picture");
}

TEST(Slug, CutsBetweenCharacters) {
  EXPECT_EQ(slug(std::string(1'000'000, 'x')).size(), 60U);
  std::string umlauts = "x";
  for (int i = 0; i < 50; ++i) umlauts += "\xC3\xA4";
  EXPECT_EQ(slug(umlauts), umlauts.substr(0, 61));
}

TEST(Numbered, PadsToTheLastIndex) {
  EXPECT_EQ(numbered("d/apple.png", 0, 1), "d/apple.png");
  EXPECT_EQ(numbered("d/apple.png", 1, 2), "d/apple-1.png");
  EXPECT_EQ(numbered("d/apple.png", 7, 12), "d/apple-07.png");
}

TEST(OutputNames, NamesThatWereAskedForAreUsed) {
  OutputNames names({.output = "x/apple"}, 2);
  EXPECT_EQ(names.next("ignored", 3), "x/apple-0.png");
  EXPECT_EQ(names.next("ignored", 4), "x/apple-1.png");
  EXPECT_EQ(names.grid("ignored"), "x/apple-grid.png");
}

TEST(OutputNames, VideosHaveTheirOwn) {
  const struct {
    const char* output;
    const char* first;
  } table[] = {{"x/fox", "x/fox-0.mp4"},
               {"fox.mp4", "fox-0.mp4"},
               {"fox.webp", "fox-0.webp"},
               {"x/fox/", "x/fox-0"}};
  for (const auto& row : table) {
    OutputNames names({.output = row.output}, 2, OutputKind::kVideo);
    EXPECT_EQ(names.next("ignored", 3), row.first);
  }
  EXPECT_EQ(OutputNames({}, 1, OutputKind::kVideo).next("Fox", 7), "out/fox-seed7.mp4");
  for (const char* bad : {"fox.png", "fox.avi", "/", "./", "../"}) {
    EXPECT_THROW(OutputNames({.output = bad}, 1, OutputKind::kVideo), Error) << bad;
  }
  EXPECT_THROW(OutputNames({.output = "fox.mp4"}, 1), Error);
  EXPECT_THROW(OutputNames({.output = "fox/"}, 1), Error);
}

TEST(OutputNames, AutomaticNamesReplaceNothing) {
  const fs::path folder = fs::path(testing::TempDir()) / "output_names_test";
  fs::remove_all(folder);
  OutputNames names({.output_path = folder.string()}, 2);
  names.prepare();
  const fs::path first = names.next("Apple", 7);
  EXPECT_EQ(first, folder / "apple-seed7.png");
  write_file(first, "x");
  EXPECT_EQ(names.next("Apple", 7), folder / "apple-seed7-2.png");
  EXPECT_THAT(fs::directory_iterator(folder)->path(), first);
}

TEST(OutputNames, LeavesNoEmptyFolders) {
  const fs::path root = fs::path(testing::TempDir()) / "output_names_empty";
  fs::remove_all(root);
  fs::create_directory(root);
  {
    OutputNames names({.output_path = (root / "a/b/").string()}, 1);
    names.prepare();
    EXPECT_TRUE(fs::is_directory(root / "a/b"));
  }
  EXPECT_TRUE(fs::is_empty(root));
  {
    OutputNames names({.output_path = (root / "a/b").string()}, 1);
    names.prepare();
    write_file(names.next("Apple", 7), "x");
  }
  EXPECT_TRUE(fs::exists(root / "a/b/apple-seed7.png"));
}

TEST(OutputNames, RefusesWhatCannotWork) {
  using Options = OutputNames::Options;
  EXPECT_THROW(OutputNames(Options{.output = "a.jpg"}, 1), Error);
  EXPECT_THROW(OutputNames(Options{.output = "folder/"}, 1), Error);
  EXPECT_THROW(OutputNames(Options{.output_path = "d", .output = "a.png"}, 1), Error);
  EXPECT_THROW(OutputNames(Options{.output = "/no/such/folder/a.png"}, 1).prepare(), Error);
  EXPECT_THROW(check_writable("/dev/null"), Error);
}

}  // namespace
}  // namespace dither::cli
