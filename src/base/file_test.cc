#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <csignal>
#include <cstdint>
#include <limits>
#include <optional>
#include <thread>
#include <vector>

#include "base/atomic_file.h"
#include "base/checked.h"
#include "base/mapped_file.h"
#include "base/test_util.h"

namespace dither {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::vector<std::string> files_in(const std::filesystem::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    names.push_back(entry.path().filename().string());
  }
  return names;
}

TEST(AtomicFile, AppearsWhenCommitted) {
  const TempFolder folder;
  const auto path = folder.path() / "a.txt";
  AtomicFile file(path);
  file.write("one ");
  file.write("two");
  EXPECT_FALSE(std::filesystem::exists(path));
  file.commit();
  EXPECT_EQ(read_text_file(path, 7), "one two");
  EXPECT_THAT(files_in(folder.path()), ElementsAre("a.txt"));
}

TEST(AtomicFile, UncommittedKeepsTheOldFile) {
  const TempFolder folder;
  const auto path = folder.write("a.txt", "old");
  {
    AtomicFile(path).write("new");
  }
  EXPECT_EQ(read_text_file(path, 100), "old");
  EXPECT_THAT(files_in(folder.path()), ElementsAre("a.txt"));
}

TEST(AtomicFile, FollowsTheUmask) {
  const TempFolder folder;
  const mode_t before = ::umask(0027);
  write_file(folder.path() / "a", "");
  ::umask(before);
  struct stat status{};
  ASSERT_EQ(::stat((folder.path() / "a").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0640U);
}

TEST(AtomicFile, ConcurrentWritersNeverMix) {
  const TempFolder folder;
  const auto path = folder.path() / "a";
  std::vector<std::thread> writers;
  for (char letter = 'a'; letter < 'e'; ++letter) {
    writers.emplace_back([&, letter] {
      for (int i = 0; i < 20; ++i) write_file(path, std::string(10000, letter));
    });
  }
  for (auto& writer : writers) writer.join();
  const std::string content = read_text_file(path, 10000);
  EXPECT_EQ(content, std::string(10000, content[0]));
  EXPECT_THAT(files_in(folder.path()), ElementsAre("a"));
}

TEST(AtomicFile, NamesWhatItCannotCreate) {
  const TempFolder folder;
  const Error missing = error_of([&] { AtomicFile(folder.path() / "no/a.txt"); });
  EXPECT_EQ(missing.code(), ErrorCode::kNotFound);
  EXPECT_THAT(missing.what(), HasSubstr("no/a.txt: cannot create: No such file or directory"));
  for (const char* special : {"/dev/null", "/tmp"}) {
    EXPECT_EQ(error_of([&] { AtomicFile file(special); }).code(), ErrorCode::kIo) << special;
  }
}

TEST(AtomicFile, AFullDiskIsResourceExhausted) {
  const TempFolder folder;
  const auto path = folder.path() / "a";
  struct rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  auto* const handler = std::signal(SIGXFSZ, SIG_IGN);
  struct rlimit small = before;
  small.rlim_cur = 1000;
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const Error error = error_of([&] { write_file(path, std::string(5000, 'x')); });
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  EXPECT_EQ(error.code(), ErrorCode::kResourceExhausted);
  EXPECT_THAT(error.what(), HasSubstr("cannot write: File too large"));
  EXPECT_THAT(files_in(folder.path()), IsEmpty());
}

TEST(MappedFile, MapsContentAndReleasesPages) {
  const TempFolder folder;
  const auto file = MappedFile::open(folder.write("a", std::string(100000, 'x')));
  ASSERT_EQ(file->bytes().size(), 100000U);
  file->release(file->bytes());
  file->release(file->bytes().subspan(5, 3));
  EXPECT_EQ(file->bytes()[99999], std::byte{'x'});
  EXPECT_TRUE(MappedFile::open(folder.write("empty", ""))->bytes().empty());
}

TEST(MappedFile, ReadsAPartOfItself) {
  const TempFolder folder;
  const auto path = folder.write("a", "0123456789");
  const auto file = MappedFile::open(path);
  std::string part(4, ' ');
  auto* const to = reinterpret_cast<std::byte*>(part.data());
  file->read(file->bytes().subspan(3, 4), to);
  EXPECT_EQ(part, "3456");
  file->read({}, to);

  std::filesystem::resize_file(path, 5);  // touching the mapping would be a signal
  const Error error = error_of([&] { file->read(file->bytes().subspan(3, 4), to); });
  EXPECT_EQ(error.code(), ErrorCode::kIo);
  EXPECT_THAT(error.what(), HasSubstr("ends at byte 5, it had 10 when it was opened"));
}

TEST(MappedFile, RefusesWhatIsNoRegularFile) {
  const TempFolder folder;
  EXPECT_EQ(error_of([&] { MappedFile::open(folder.path() / "no"); }).code(), ErrorCode::kNotFound);
  const auto pipe = folder.path() / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  for (const auto& path : {folder.path(), pipe}) {
    const Error error = error_of([&] { MappedFile::open(path); });
    EXPECT_EQ(error.code(), ErrorCode::kIo);
    EXPECT_THAT(error.what(), HasSubstr("not a regular file"));
  }
}

TEST(ReadTextFile, HasALimit) {
  const TempFolder folder;
  const auto path = folder.write("a", "12345");
  EXPECT_EQ(read_text_file(path, 5), "12345");
  const Error error = error_of([&] { read_text_file(path, 4); });
  EXPECT_EQ(error.code(), ErrorCode::kDataLoss);
  EXPECT_THAT(error.what(), HasSubstr("5 bytes, the limit for this file is 4"));
}

TEST(Checked, FindsOverflow) {
  constexpr auto kMax = std::numeric_limits<std::int64_t>::max();
  EXPECT_EQ(checked_mul<std::int64_t>(kMax / 2, 2), kMax - 1);
  EXPECT_EQ(checked_mul<std::int64_t>(kMax / 2 + 1, 2), std::nullopt);
  EXPECT_EQ(checked_add<std::int64_t>(kMax - 1, 1), kMax);
  EXPECT_EQ(checked_add<std::int64_t>(kMax, 1), std::nullopt);
  EXPECT_EQ(checked_add<std::uint8_t>(255, 1), std::nullopt);
}

TEST(ErrorCodes, HaveStableNames) {
  EXPECT_EQ(error_code_name(ErrorCode::kInvalidArgument), "invalid_argument");
  EXPECT_EQ(error_code_name(ErrorCode::kNotFound), "not_found");
  EXPECT_EQ(error_code_name(ErrorCode::kDataLoss), "data_loss");
  EXPECT_EQ(error_code_name(ErrorCode::kUnsupported), "unsupported");
  EXPECT_EQ(error_code_name(ErrorCode::kResourceExhausted), "resource_exhausted");
  EXPECT_EQ(error_code_name(ErrorCode::kIo), "io");
  EXPECT_EQ(error_code_name(ErrorCode::kDevice), "device");
  EXPECT_EQ(error_code_name(ErrorCode::kCancelled), "cancelled");
  EXPECT_EQ(error_code_name(ErrorCode::kInternal), "internal");
}

}  // namespace
}  // namespace dither
