#include "io/torch_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>

#include "base/error.h"
#include "io/safetensors.h"

namespace dither {
namespace {

const std::filesystem::path kGolden = std::filesystem::path(DITHER_SOURCE_DIR) / "tests/golden";

// tests/golden/make_torch_files.py, torch 2.15.0.
class TorchFileContent : public testing::TestWithParam<std::string> {};

TEST_P(TorchFileContent, EqualsTorch) {
  const auto expected = SafetensorsFile::open(kGolden / "torch/expected.safetensors");
  const auto file = TorchFile::open(kGolden / "torch" / (GetParam() + ".pt"));
  std::size_t compared = 0;
  for (const TensorInfo& info : expected->tensors()) {
    if (!info.name.starts_with(GetParam() + "/")) continue;
    const std::string name = info.name.substr(GetParam().size() + 1);
    const TensorInfo* found = file->find(name);
    ASSERT_NE(found, nullptr) << name;
    EXPECT_EQ(found->dtype, info.dtype) << name;
    EXPECT_EQ(found->shape, info.shape) << name;
    const Tensor ours = file->read(name);
    const Tensor theirs = expected->read(info.name);
    ASSERT_EQ(ours.bytes(), theirs.bytes()) << name;
    if (ours.bytes() > 0) {
      EXPECT_EQ(std::memcmp(ours.raw(), theirs.raw(), ours.bytes()), 0) << name;
    }
    ++compared;
  }
  EXPECT_EQ(compared, file->tensors().size());
  EXPECT_FALSE(file->modelopt_state().has_value());
}

INSTANTIATE_TEST_SUITE_P(Table, TorchFileContent, testing::Values("dtypes", "views", "legacy"));

// A pickle assembled from opcodes, for what torch.save would never write.
std::string pickle(const std::string& body) { return "\x80\x02" + body + "."; }
std::string text(const std::string& s) {
  const auto size = static_cast<std::uint32_t>(s.size());
  std::string out = "X";
  out.append(reinterpret_cast<const char*>(&size), 4);
  return out + s;
}

struct HostileCase {
  std::string name;
  std::string pickle;
  std::string message;
};
void PrintTo(const HostileCase& c, std::ostream* out) { *out << c.name; }

class HostilePickle : public testing::TestWithParam<HostileCase> {};

TEST_P(HostilePickle, IsRefused) {
  const std::string& bytes = GetParam().pickle;
  try {
    Pickle::parse(std::as_bytes(std::span(bytes)), "test");
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr(GetParam().message));
  }
}

INSTANTIATE_TEST_SUITE_P(
    Table, HostilePickle,
    testing::Values(HostileCase{"empty", "", "ends in the middle"},
                    HostileCase{"no_protocol", "}.", "protocol"},
                    HostileCase{"protocol_4", "\x80\x04}.", "protocol 4"},
                    HostileCase{"inst", pickle("(ios\nsystem\n"), "0x69"},
                    HostileCase{"obj", pickle("(cos\nsystem\no"), "0x6F"},
                    HostileCase{"stack_global", pickle(text("os") + text("system") + "\x93"),
                                "0x93"},
                    HostileCase{"ext1", pickle("\x82\x01"), "0x82"},
                    HostileCase{"text_persistent_id", pickle("Pabc\n"), "0x50"},
                    HostileCase{"pop_empty", pickle("0"), "0x30"},
                    HostileCase{"tuple_underflow", pickle("N\x86"), "empty stack"},
                    HostileCase{"unopened_mark", pickle("u"), "never opened"},
                    HostileCase{"memo_absent", pickle("h\x07"), "memo entry 7"},
                    HostileCase{"call_a_string", pickle(text("os.system") + ")R"), "no name"},
                    HostileCase{"append_to_dict", pickle("}Na"), "not a list"},
                    HostileCase{"list_as_key", pickle("}]Ns"), "not a plain value"},
                    HostileCase{"odd_items", pickle("}(Nu"), "key without a value"},
                    HostileCase{"huge_string", "\x80\x02X\xFF\xFF\xFF\xFF", "a string of"},
                    HostileCase{"huge_long", "\x80\x02\x8A\x20", "integer of 32 bytes"},
                    HostileCase{"bad_utf8", pickle(text("\xC3(")), "UTF-8"},
                    HostileCase{"deep", "\x80\x02" + std::string(100, '('), "too deeply"},
                    HostileCase{"left_over", pickle("NN"), "left on the stack"}),
    [](const auto& tested) { return tested.param.name; });

std::string message_of(const std::filesystem::path& path) {
  try {
    TorchFile::open(path);
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

std::filesystem::path write_temporary(const std::string& name, const std::string& bytes) {
  const auto path = std::filesystem::path(testing::TempDir()) / name;
  std::ofstream(path, std::ios::binary) << bytes;
  return path;
}

std::string read_all(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

TEST(TorchFile, EveryTruncationIsRefused) {
  for (const char* name : {"views.pt", "legacy.pt"}) {
    const std::string whole = read_all(kGolden / "torch" / name);
    for (std::size_t size = 0; size < whole.size(); size += 13) {
      const auto path = write_temporary("truncated.pt", whole.substr(0, size));
      EXPECT_NE(message_of(path), "accepted") << name << " cut to " << size;
    }
  }
}

TEST(TorchFile, NamesAForbiddenGlobal) {
  std::string bytes = read_all(kGolden / "torch/dtypes.pt");
  const std::string allowed = "torch\nfloat8_e5m2";
  const std::string forbidden = "shutil\nwhich_ever";
  const auto at = bytes.find(allowed);
  ASSERT_NE(at, std::string::npos);
  bytes.replace(at, allowed.size(), forbidden);
  EXPECT_THAT(message_of(write_temporary("forbidden.pt", bytes)),
              testing::HasSubstr("'shutil which_ever', which is not allowed"));
}

TEST(TorchFile, NeitherZipNorLegacy) {
  EXPECT_THAT(message_of(write_temporary("text.pt", "hello")), testing::HasSubstr("neither a zip"));
  EXPECT_FALSE(is_torch_file(write_temporary("empty.pt", "")));
}

}  // namespace
}  // namespace dither
