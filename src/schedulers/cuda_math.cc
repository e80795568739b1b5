#include "schedulers/cuda_math.h"

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>

// Compiled with -ffp-contract=off: see CMakeLists.txt.

namespace dither::schedulers {
namespace {

/// sin(pi/2 (segment + u)/64), 0 <= u < 1, as
/// 2^-25 constant + 2^-20 slope u - 2^-22 curvature u^2. Found by least squares over outputs of the
/// hardware: with the square truncated as below, the solutions are integers to within 0.01.
struct Segment {
  int32_t constant;
  int32_t slope;
  int32_t curvature;
};

constexpr int kSegmentBits = 6;
constexpr int kOffsetBits = 17;
constexpr uint32_t kQuarterMask = (1U << (kSegmentBits + kOffsetBits)) - 1U;

constexpr std::array<Segment, 1 << kSegmentBits> kSine = {{
    {0, 25737, 14},          {823463, 25730, 48},     {1646436, 25706, 76},
    {2468414, 25668, 110},   {3288906, 25613, 137},   {4107418, 25544, 171},
    {4923453, 25459, 201},   {5736526, 25358, 229},   {6546141, 25243, 262},
    {7351816, 25112, 292},   {8153060, 24966, 322},   {8949394, 24805, 352},
    {9740335, 24629, 381},   {10525413, 24438, 410},  {11304145, 24233, 441},
    {12076070, 24013, 470},  {12840725, 23778, 497},  {13597643, 23529, 525},
    {14346367, 23266, 553},  {15086452, 22989, 581},  {15817450, 22698, 608},
    {16538916, 22394, 637},  {17250422, 22076, 664},  {17951542, 21744, 688},
    {18641840, 21400, 715},  {19320916, 21042, 738},  {19988350, 20672, 763},
    {20643746, 20290, 790},  {21286703, 19895, 812},  {21916841, 19489, 839},
    {22533776, 19070, 859},  {23137138, 18640, 881},  {23726565, 18199, 904},
    {24301698, 17747, 926},  {24862194, 17284, 946},  {25407711, 16811, 967},
    {25937924, 16328, 988},  {26452518, 15834, 1004}, {26951170, 15332, 1025},
    {27433593, 14820, 1043}, {27899488, 14299, 1059}, {28348583, 13769, 1074},
    {28780594, 13232, 1093}, {29195273, 12686, 1107}, {29592364, 12133, 1123},
    {29971632, 11572, 1136}, {30332846, 11004, 1148}, {30675788, 10430, 1162},
    {31000253, 9849, 1172},  {31306042, 9263, 1185},  {31592974, 8671, 1196},
    {31860879, 8073, 1203},  {32109590, 7471, 1213},  {32338961, 6864, 1220},
    {32548845, 6254, 1230},  {32739132, 5639, 1236},  {32909694, 5021, 1242},
    {33060432, 4400, 1247},  {33191257, 3776, 1250},  {33302087, 3151, 1258},
    {33392857, 2523, 1260},  {33463517, 1893, 1260},  {33514014, 1263, 1263},
    {33544326, 632, 1265},
}};

/// x rounded towards zero to 24 significant bits.
double truncate_to_float(double x) {
  constexpr uint64_t kMask = ~((uint64_t{1} << 29) - 1);
  return std::bit_cast<double>(std::bit_cast<uint64_t>(x) & kMask);
}

/// u^2 / 2^19 for a 17-bit u, without the carries from below: the squarer adds only the partial
/// products u_i u_j 2^(i+j) of columns 19 and up.
int32_t truncated_square(int32_t u) {
  const int32_t high = u >> 9;
  int32_t sum = (high * high) >> 1;
  for (int bit = 2; bit < 9; ++bit) sum += ((u >> bit) & 1) * (u >> (18 - bit));
  return sum;
}

/// sin(pi/2 x / 2^23), 0 <= x < 2^23, truncated to 24 significant bits.
float quarter_sine(uint32_t x) {
  const Segment& segment = kSine[x >> kOffsetBits];
  const auto u = static_cast<int32_t>(x & ((1U << kOffsetBits) - 1U));
  // In units of 2^-37, below 2^38: exact.
  const double sum = 0x1p12 * segment.constant + static_cast<double>(segment.slope) * u -
                     static_cast<double>(segment.curvature) * truncated_square(u);
  return static_cast<float>(truncate_to_float(sum) * 0x1p-37);
}

}  // namespace

float cuda_log(float x) {
  constexpr uint32_t kTwoThirds = 0x3F2AAAABU;
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const uint32_t exponent_bits = (bits - kTwoThirds) & 0xFF800000U;  // leaves m in [2/3, 4/3)
  const float exponent = static_cast<float>(static_cast<int32_t>(exponent_bits)) * 0x1p-23F;
  const float f = std::bit_cast<float>(bits - exponent_bits) - 1.0F;
  float y = -0x1.0aa04ep-3F;
  y = std::fma(y, f, 0x1.2073ecp-3F);
  y = std::fma(y, f, -0x1.f19b98p-4F);
  y = std::fma(y, f, 0x1.1e52aap-3F);
  y = std::fma(y, f, -0x1.55b172p-3F);
  y = std::fma(y, f, 0x1.99da16p-3F);
  y = std::fma(y, f, -0x1.fffe44p-3F);
  y = std::fma(y, f, 0x1.5554f0p-2F);
  y = std::fma(y, f, -0.5F);
  y = std::fma(f * y, f, f);
  return std::fma(exponent, 0x1.62e430p-1F, y);
}

SinCos cuda_fast_sincos(float x) {
  // In turns, first as FMUL.RZ rounds them, then cut to 25 fraction bits: quadrant, segment, u.
  constexpr double kInverseTwoPi = 0x1.45f306p-3;
  const double turns = truncate_to_float(static_cast<double>(x) * kInverseTwoPi);
  const auto position = static_cast<uint32_t>(static_cast<int32_t>(turns * 0x1p25));
  const uint32_t quadrant = (position >> (kSegmentBits + kOffsetBits)) & 3U;
  const uint32_t forward = position & kQuarterMask;
  const uint32_t backward = kQuarterMask - forward;  // pi/2 - angle, one unit short of it
  const bool odd = (quadrant & 1U) != 0;
  const float sin = quarter_sine(odd ? backward : forward);
  const float cos = quarter_sine(odd ? forward : backward);
  return {quadrant >= 2 ? -sin : sin, quadrant == 1 || quadrant == 2 ? -cos : cos};
}

}  // namespace dither::schedulers
