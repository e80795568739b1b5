#include "media/h264_sps.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "base/error.h"

namespace dither {
namespace {

/// Bits of a NAL unit's payload, most significant first.
class BitReader {
 public:
  BitReader(std::span<const std::byte> unit, std::string_view name) : name_(name) {
    // 00 00 03 stands for 00 00: emulation prevention, 7.4.1.
    int zeros = 0;
    for (const std::byte byte : unit) {
      if (zeros >= 2 && byte == std::byte{3}) {
        zeros = 0;
        continue;
      }
      zeros = byte == std::byte{0} ? zeros + 1 : 0;
      bytes_.push_back(byte);
    }
  }

  std::uint32_t u(int bits) {
    std::uint32_t value = 0;
    for (int i = 0; i < bits; ++i) {
      const std::size_t byte = at_ / 8;
      if (byte >= bytes_.size()) {
        throw Error(ErrorCode::kDataLoss,
                    fmt::format("{}: its H.264 sequence parameter set is cut after {} bytes", name_,
                                bytes_.size()));
      }
      value = value << 1 | (std::to_integer<std::uint32_t>(bytes_[byte]) >> (7 - at_ % 8) & 1U);
      ++at_;
    }
    return value;
  }

  /// Exp-Golomb code ue(v), 9.1.
  std::uint32_t ue() {
    std::uint32_t zeros = 0;
    while (u(1) == 0) {
      if (++zeros > 31) refuse("leadingZeroBits", zeros);
    }
    return (1U << zeros) - 1 + u(static_cast<int>(zeros));
  }

  /// Throws unless the value is the only one that is supported.
  void expect(std::string_view field, std::uint32_t value, std::uint32_t wanted) const {
    if (value != wanted) refuse(field, value);
  }
  [[noreturn]] void refuse(std::string_view field, std::uint32_t value) const {
    throw Error(
        ErrorCode::kUnsupported,
        fmt::format("{}: H.264 with {} {}; progressive 8-bit 4:2:0 in the baseline, main or "
                    "high profile is read",
                    name_, field, value));
  }

 private:
  std::string name_;
  std::vector<std::byte> bytes_;
  std::size_t at_ = 0;
};

constexpr std::uint32_t kBaseline = 66;
constexpr std::uint32_t kMain = 77;
constexpr std::uint32_t kHigh = 100;

void parse_order_count(BitReader& bits) {
  const std::uint32_t type = bits.ue();
  if (type == 0) {
    bits.ue();  // log2_max_pic_order_cnt_lsb_minus4
  } else {
    bits.expect("pic_order_cnt_type", type, 2);
  }
}

}  // namespace

H264Size parse_sps(std::span<const std::byte> unit, std::string_view name) {
  BitReader bits(unit, name);
  constexpr std::uint32_t kSequenceParameterSet = 7;
  bits.expect("nal_unit_type", bits.u(8) & 0x1F, kSequenceParameterSet);
  const std::uint32_t profile = bits.u(8);
  if (profile != kBaseline && profile != kMain && profile != kHigh) {
    bits.refuse("profile_idc", profile);
  }
  bits.u(16);  // constraint flags, level_idc
  bits.ue();   // seq_parameter_set_id
  if (profile == kHigh) {
    bits.expect("chroma_format_idc", bits.ue(), 1);
    bits.expect("bit_depth_luma_minus8", bits.ue(), 0);
    bits.expect("bit_depth_chroma_minus8", bits.ue(), 0);
    bits.expect("qpprime_y_zero_transform_bypass_flag", bits.u(1), 0);
    bits.expect("seq_scaling_matrix_present_flag", bits.u(1), 0);
  }
  bits.ue();  // log2_max_frame_num_minus4
  parse_order_count(bits);
  constexpr std::uint32_t kMaxReferences = 16;
  if (const std::uint32_t references = bits.ue(); references > kMaxReferences) {
    bits.refuse("max_num_ref_frames", references);
  }
  bits.u(1);  // gaps_in_frame_num_value_allowed_flag
  const std::uint32_t columns = bits.ue();
  const std::uint32_t rows = bits.ue();
  constexpr std::uint32_t kMaxMacroblocks = 1024;  // of a side, 16 pixels each
  if (columns >= kMaxMacroblocks) bits.refuse("pic_width_in_mbs_minus1", columns);
  if (rows >= kMaxMacroblocks) bits.refuse("pic_height_in_map_units_minus1", rows);
  bits.expect("frame_mbs_only_flag", bits.u(1), 1);
  bits.u(1);                                            // direct_8x8_inference_flag
  std::array<std::uint32_t, 4> cropped = {0, 0, 0, 0};  // left, right, top, bottom, 2 pixels each
  if (bits.u(1) != 0) {
    for (std::uint32_t& side : cropped) {
      side = bits.ue();
      if (side >= 8) bits.refuse("frame cropping", side);
    }
  }
  const H264Size size{.width = static_cast<int>(16 * (columns + 1) - 2 * (cropped[0] + cropped[1])),
                      .height = static_cast<int>(16 * (rows + 1) - 2 * (cropped[2] + cropped[3]))};
  if (size.width <= 0 || size.height <= 0) bits.refuse("frame cropping", cropped[1]);
  return size;
}

}  // namespace dither
