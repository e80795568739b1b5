#include "io/hub_cache.h"

#include <gmock/gmock.h>

#include <cstdlib>

#include "base/test_util.h"

namespace dither {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr const char* kCommit = "0123456789abcdef0123456789abcdef01234567";

TEST(HubId, HasOwnerNameRevisionAndSubfolder) {
  const struct {
    const char* text;
    const char* repository;
    const char* revision;
    const char* subfolder;
  } table[] = {
      {"black-forest-labs/FLUX.1-dev", "black-forest-labs/FLUX.1-dev", "main", ""},
      {"a/b@v1.0", "a/b", "v1.0", ""},
      {"a/b/transformer", "a/b", "main", "transformer"},
      {"a/b@refs-1/x/y", "a/b", "refs-1", "x/y"},
  };
  for (const auto& row : table) {
    const auto id = parse_hub_id(row.text);
    ASSERT_TRUE(id) << row.text;
    EXPECT_EQ(id->repository, row.repository);
    EXPECT_EQ(id->revision, row.revision);
    EXPECT_EQ(id->subfolder, row.subfolder);
  }
}

TEST(HubId, IsNeverTakenFromAPath) {
  for (const char* text :
       {"", "a", "/a/b", "./a/b", "../a/b", "~/a/b", "a/", "a/b/", "a//b", "a/../b", "a/b/../c",
        "a/b@", "a/b@../x", "a b/c", "a\\b/c", "a/.hidden", "a/b/./c"}) {
    EXPECT_FALSE(parse_hub_id(text)) << text;
  }
}

TEST(HubCache, FollowsRefsAndTakesCommits) {
  const TempFolder cache;
  const std::string repository = "models--a--b.c/";
  cache.write(repository + "refs/main", std::string(kCommit) + "\n");
  cache.write(repository + "snapshots/" + kCommit + "/transformer/config.json", "{}");
  const auto snapshot = cache.path() / (repository + "snapshots") / kCommit;
  const auto find = [&](const char* text) {
    return find_in_hub_cache(*parse_hub_id(text), cache.path());
  };
  EXPECT_EQ(find("a/b.c"), snapshot);
  EXPECT_EQ(find("a/b.c/transformer"), snapshot / "transformer");
  EXPECT_EQ(find(("a/b.c@" + std::string(kCommit)).c_str()), snapshot);
  EXPECT_THAT(error_of([&] { find("a/b.c@v2/vae"); }).what(),
              HasSubstr("hf download a/b.c --revision v2 --include 'vae/*'"));
  const Error missing = error_of([&] { find("a/other"); });
  EXPECT_EQ(missing.code(), ErrorCode::kNotFound);
  EXPECT_THAT(missing.what(),
              AllOf(HasSubstr("hf download a/other"), HasSubstr(cache.path().string())));
}

TEST(HubCache, RefMustStayInTheRepository) {
  const TempFolder cache;
  cache.write("models--a--b/refs/main", "../../..");
  EXPECT_EQ(error_of([&] { find_in_hub_cache({.repository = "a/b"}, cache.path()); }).code(),
            ErrorCode::kDataLoss);
}

TEST(ModelPath, ExistingPathGoesBeforeTheHub) {
  const TempFolder folder;
  folder.write("hub/models--a--b/refs/main", kCommit);
  folder.write(std::string("hub/models--a--b/snapshots/") + kCommit + "/model_index.json", "{}");
  const char* old = std::getenv("HF_HUB_CACHE");
  const std::string restored = old != nullptr ? old : "";
  ::setenv("HF_HUB_CACHE", (folder.path() / "hub").c_str(), 1);
  EXPECT_EQ(resolve_model_path("a/b").filename(), kCommit);
  EXPECT_EQ(resolve_model_path(folder.path().string()), folder.path());
  EXPECT_EQ(resolve_model_path("./a/b"), "./a/b");
  if (old != nullptr) {
    ::setenv("HF_HUB_CACHE", restored.c_str(), 1);
  } else {
    ::unsetenv("HF_HUB_CACHE");
  }
}

}  // namespace
}  // namespace dither
