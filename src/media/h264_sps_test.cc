#include "media/h264_sps.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/test_util.h"

namespace dither {
namespace {

using ::testing::HasSubstr;

/// The fields of a sequence parameter set, as ITU-T H.264, 7.3.2.1.1 orders them.
struct Fields {
  std::uint32_t profile = 100;
  std::uint32_t chroma = 1;
  std::uint32_t luma_depth = 0;
  std::uint32_t scaling = 0;
  std::uint32_t order_count_type = 0;
  std::uint32_t references = 1;
  std::uint32_t columns = 51;  // 832 pixels
  std::uint32_t rows = 29;     // 480
  std::uint32_t progressive = 1;
  std::array<std::uint32_t, 4> crop = {0, 0, 0, 0};
};

class Bits {
 public:
  void u(int count, std::uint32_t value) {
    while (count-- > 0) {
      if (bits_++ % 8 == 0) bytes.push_back(std::byte{0});
      bytes.back() |= static_cast<std::byte>((value >> count & 1U) << (7 - (bits_ - 1) % 8));
    }
  }
  void ue(std::uint32_t value) {
    int length = 0;
    while ((value + 1) >> (length + 1) != 0) ++length;
    u(length, 0);
    u(length + 1, value + 1);
  }
  std::vector<std::byte> bytes;

 private:
  int bits_ = 0;
};

std::vector<std::byte> sps(const Fields& fields) {
  Bits bits;
  bits.u(8, 0x67);
  bits.u(8, fields.profile);
  bits.u(16, 0x001E);
  bits.ue(0);
  if (fields.profile == 100) {
    bits.ue(fields.chroma);
    bits.ue(fields.luma_depth);
    bits.ue(0);
    bits.u(1, 0);
    bits.u(1, fields.scaling);
  }
  bits.ue(0);
  bits.ue(fields.order_count_type);
  if (fields.order_count_type == 0) bits.ue(2);
  bits.ue(fields.references);
  bits.u(1, 0);
  bits.ue(fields.columns);
  bits.ue(fields.rows);
  bits.u(1, fields.progressive);
  bits.u(1, 1);
  const bool cropped = fields.crop != std::array<std::uint32_t, 4>{};
  bits.u(1, cropped ? 1 : 0);
  for (const std::uint32_t side : fields.crop) {
    if (cropped) bits.ue(side);
  }
  bits.u(8, 0x80);
  return bits.bytes;
}

template <typename T>
Fields with(T Fields::* field, std::type_identity_t<T> value) {
  Fields fields;
  fields.*field = value;
  return fields;
}

TEST(H264Sps, SaysTheSize) {
  const auto size_of = [](const Fields& fields) {
    const H264Size size = parse_sps(sps(fields), "a.mp4");
    return std::pair(size.width, size.height);
  };
  EXPECT_EQ(size_of({}), std::pair(832, 480));
  EXPECT_EQ(size_of(with(&Fields::profile, 66)), std::pair(832, 480));
  EXPECT_EQ(size_of(with(&Fields::order_count_type, 2)), std::pair(832, 480));
  Fields full_hd = with(&Fields::columns, 119);
  full_hd.rows = 67;
  full_hd.crop = {0, 0, 0, 4};
  EXPECT_EQ(size_of(full_hd), std::pair(1920, 1080));
}

// 0 0 3 in a NAL unit stands for 0 0: here within constraint flags and level.
TEST(H264Sps, LeavesOutEmulationPrevention) {
  Fields fields;
  auto unit = sps(fields);
  unit[2] = unit[3] = std::byte{0};
  auto escaped = unit;
  escaped.insert(escaped.begin() + 4, std::byte{3});
  EXPECT_EQ(parse_sps(unit, "a").width, 832);
  EXPECT_EQ(parse_sps(escaped, "a").width, 832);
}

struct SpsCase {
  Fields fields;
  const char* says;
};
class RefusedSps : public testing::TestWithParam<SpsCase> {};

TEST_P(RefusedSps, IsRefusedByItsField) {
  const Error error = error_of([] { parse_sps(sps(GetParam().fields), "a.mp4"); });
  EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
  EXPECT_THAT(error.what(), HasSubstr(std::string("a.mp4: H.264 with ") + GetParam().says + ";"));
}
INSTANTIATE_TEST_SUITE_P(
    Table, RefusedSps,
    testing::Values(SpsCase{with(&Fields::profile, 122), "profile_idc 122"},
                    SpsCase{with(&Fields::chroma, 3), "chroma_format_idc 3"},
                    SpsCase{with(&Fields::luma_depth, 2), "bit_depth_luma_minus8 2"},
                    SpsCase{with(&Fields::scaling, 1), "seq_scaling_matrix_present_flag 1"},
                    SpsCase{with(&Fields::order_count_type, 1), "pic_order_cnt_type 1"},
                    SpsCase{with(&Fields::references, 17), "max_num_ref_frames 17"},
                    SpsCase{with(&Fields::columns, 1 << 20), "pic_width_in_mbs_minus1 1048576"},
                    SpsCase{with(&Fields::rows, 4000), "pic_height_in_map_units_minus1 4000"},
                    SpsCase{with(&Fields::progressive, 0), "frame_mbs_only_flag 0"},
                    SpsCase{with(&Fields::crop, {0, 9, 0, 0}), "frame cropping 9"}));

TEST(H264Sps, RefusesTruncationAtEveryByte) {
  const auto unit = sps({});
  // The last byte is the set's end, which is beyond the size.
  for (std::size_t size = 0; size + 1 < unit.size(); ++size) {
    const Error error = error_of([&] { parse_sps(std::span(unit).first(size), "cut.mp4"); });
    EXPECT_EQ(error.code(), ErrorCode::kDataLoss) << size;
    EXPECT_THAT(error.what(), HasSubstr("cut.mp4")) << size;
  }
}

}  // namespace
}  // namespace dither
