#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backends/cpu/norm_kernels.cc"
#include <hwy/foreach_target.h>
// foreach_target.h comes first; this file is included again for every instruction set.
#include <algorithm>
#include <cmath>
#include <type_traits>

#include "backends/cpu/kernels.h"
#include "backends/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace dither::cpu::HWY_NAMESPACE {
namespace {

/// Sums over a row go to double every kSumBlock elements, so that their error does not grow with
/// the row's length, however few lanes share the work.
constexpr std::int64_t kSumBlock = 512;

template <class F>
HWY_INLINE double blockwise(std::int64_t count, const F& block_sum) {
  double sum = 0;
  for (std::int64_t i = 0; i < count; i += kSumBlock) {
    sum += sum_of_lanes(block_sum(i, std::min(kSumBlock, count - i)));
  }
  return sum;
}

template <class T>
HWY_INLINE double sum_squares(const T* x, std::int64_t count) {
  return blockwise(count, [&](std::int64_t begin, std::int64_t length) HWY_ATTR {
    VF sum = hn::Zero(F32());
    each_vector(length, [&](std::int64_t i, auto part) HWY_ATTR {
      const VF v = load(x + begin + i, part);
      sum = hn::MulAdd(v, v, sum);
    });
    return sum;
  });
}

/// Sum of (x - centre)^power, power 1 or 2; a tail's absent lanes do not count.
template <int kPower, class T>
HWY_INLINE double sum_deviations(const T* x, std::int64_t count, float centre) {
  const F32 d;
  const VF offset = hn::Set(d, centre);
  return blockwise(count, [&](std::int64_t begin, std::int64_t length) HWY_ATTR {
    VF sum = hn::Zero(d);
    each_vector(length, [&](std::int64_t i, auto part) HWY_ATTR {
      VF v = load(x + begin + i, part) - offset;
      if constexpr (std::is_same_v<decltype(part), Tail>) {
        v = hn::IfThenElseZero(hn::FirstN(d, part.count), v);
      }
      sum = kPower == 2 ? hn::MulAdd(v, v, sum) : sum + v;
    });
    return sum;
  });
}

/// y = (x - mean) * factor * (scale_offset + scale) + shift for one row.
template <class T, class Scale>
HWY_INLINE void scale_shift_by(const NormArgs& args, std::int64_t row, VF mean, VF factor) {
  const T* x = args.x.row<T>(row);
  T* y = args.y.row<T>(row);
  const std::int64_t sample = row / args.rows_per_sample;
  const Scale* scale = args.scale.data != nullptr ? args.scale.row<Scale>(sample) : nullptr;
  const Scale* shift = args.shift.data != nullptr ? args.shift.row<Scale>(sample) : nullptr;
  const VF offset = hn::Set(F32(), args.scale_offset);
  each_vector(args.x.cols, [&](std::int64_t i, auto part) HWY_ATTR {
    VF v = (load(x + i, part) - mean) * factor;
    if (scale != nullptr) v *= load(scale + i, part) + offset;
    if (shift != nullptr) v += load(shift + i, part);
    store(v, y + i, part);
  });
}

template <class T>
HWY_INLINE void scale_shift(const NormArgs& args, std::int64_t row, VF mean, VF factor) {
  if (args.scale_dtype == DType::kF32) return scale_shift_by<T, float>(args, row, mean, factor);
  scale_shift_by<T, T>(args, row, mean, factor);
}

/// The mean is taken of the distances to the row's first element, where a large common offset has
/// cancelled exactly or nearly so.
template <class T>
void layer_norm(const NormArgs& args, std::int64_t begin, std::int64_t end) {
  const F32 d;
  const std::int64_t cols = args.x.cols;
  const auto count = static_cast<double>(cols);
  for (std::int64_t row = begin; row < end; ++row) {
    const T* x = args.x.row<T>(row);
    const float first = to_float(x[0]);
    const auto mean = static_cast<float>(first + sum_deviations<1>(x, cols, first) / count);
    const double variance = sum_deviations<2>(x, cols, mean) / count;
    const auto factor = static_cast<float>(1.0 / std::sqrt(variance + args.eps));
    scale_shift<T>(args, row, hn::Set(d, mean), hn::Set(d, factor));
  }
}

/// 1 / sqrt(mean(x^2) + eps)
template <class T>
HWY_INLINE VF rsqrt_mean_square(const T* x, std::int64_t count, float eps) {
  const double mean_square = sum_squares(x, count) / static_cast<double>(count);
  return hn::Set(F32(), static_cast<float>(1.0 / std::sqrt(mean_square + eps)));
}

template <class T>
void rms_norm(const NormArgs& args, std::int64_t begin, std::int64_t end) {
  for (std::int64_t row = begin; row < end; ++row) {
    scale_shift<T>(args, row, hn::Zero(F32()),
                   rsqrt_mean_square(args.x.row<T>(row), args.x.cols, args.eps));
  }
}

template <class T>
void channel_norm(const ChannelNormArgs& args, std::int64_t begin, std::int64_t end) {
  const std::int64_t cols = args.x.cols;
  const T* weight = reinterpret_cast<const T*>(args.weight);
  for (std::int64_t row = begin; row < end; ++row) {
    const T* x = args.x.row<T>(row);
    T* y = args.y.row<T>(row);
    const double norm = std::max(std::sqrt(sum_squares(x, cols)), 1e-12);
    const VF factor =
        hn::Set(F32(), static_cast<float>(std::sqrt(static_cast<double>(cols)) / norm));
    each_vector(cols, [&](std::int64_t i, auto part) HWY_ATTR {
      const VF v = load(x + i, part) * factor * load(weight + i, part);
      store(activation(args.activation, v), y + i, part);
    });
  }
}

void LayerNorm(const NormArgs& args, std::int64_t begin, std::int64_t end) {
  if (args.dtype == DType::kBF16) return layer_norm<bf16>(args, begin, end);
  layer_norm<float>(args, begin, end);
}

void RmsNorm(const NormArgs& args, std::int64_t begin, std::int64_t end) {
  if (args.dtype == DType::kBF16) return rms_norm<bf16>(args, begin, end);
  rms_norm<float>(args, begin, end);
}

void ChannelNorm(const ChannelNormArgs& args, std::int64_t begin, std::int64_t end) {
  if (args.dtype == DType::kBF16) return channel_norm<bf16>(args, begin, end);
  channel_norm<float>(args, begin, end);
}

/// y = rotate(x * factor * weight) for one head; even and odd channels are the pairs.
template <class T>
HWY_INLINE void rotate_head(const RopeArgs& args, const T* x, VF factor, const T* weight,
                            const float* cos, const float* sin, T* y) {
  const F32 d;
  const std::int64_t width = args.head_dim;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  HWY_ALIGN float normed[2 * hn::MaxLanes(d)];
  for (std::int64_t i = 0; i < width / 2; i += lanes) {
    const auto pairs = std::min(lanes, width / 2 - i);
    each_vector(2 * pairs, [&](std::int64_t j, auto part) HWY_ATTR {
      const VF v = load(x + 2 * i + j, part) * factor * load(weight + 2 * i + j, part);
      store(v, normed + j, part);
    });
    VF even;
    VF odd;
    hn::LoadInterleaved2(d, normed, even, odd);
    const Tail tail{static_cast<std::size_t>(pairs)};
    const VF c = pairs == lanes ? load(cos + i, Whole{}) : load(cos + i, tail);
    const VF s = pairs == lanes ? load(sin + i, Whole{}) : load(sin + i, tail);
    hn::StoreInterleaved2(even * c - odd * s, odd * c + even * s, d, normed);
    each_vector(2 * pairs, [&](std::int64_t j, auto part)
                               HWY_ATTR { store(load(normed + j, part), y + 2 * i + j, part); });
  }
}

/// y = rotate(rms_norm(x) * weight) for all heads of a token's q or k.
template <class T>
HWY_INLINE void norm_rope_token(const RopeArgs& args, const T* x, const T* weight, const float* cos,
                                const float* sin, T* y) {
  const std::int64_t width = args.heads * args.head_dim;
  for (std::int64_t first = 0; first < width; first += args.norm_width) {
    const VF factor = rsqrt_mean_square(x + first, args.norm_width, args.eps);
    for (std::int64_t i = 0; i < args.norm_width; i += args.head_dim) {
      rotate_head(args, x + first + i, factor, weight + i, cos, sin, y + first + i);
    }
  }
}

template <class T>
void norm_rope(const RopeArgs& args, std::int64_t begin, std::int64_t end) {
  const std::int64_t width = args.heads * args.head_dim;
  for (std::int64_t row = begin; row < end; ++row) {
    const std::int64_t token = row % args.tokens;
    const std::int64_t target = row / args.tokens * args.sample_stride + token * width;
    const float* cos = args.cos + token * (args.head_dim / 2);
    const float* sin = args.sin + token * (args.head_dim / 2);
    const T* x = args.qkv.row<T>(row);
    norm_rope_token(args, x, reinterpret_cast<const T*>(args.q_norm), cos, sin,
                    reinterpret_cast<T*>(args.q) + target);
    norm_rope_token(args, x + width, reinterpret_cast<const T*>(args.k_norm), cos, sin,
                    reinterpret_cast<T*>(args.k) + target);
    std::memcpy(reinterpret_cast<T*>(args.v) + target, x + 2 * width,
                static_cast<std::size_t>(width) * sizeof(T));
  }
}

void NormRope(const RopeArgs& args, std::int64_t begin, std::int64_t end) {
  if (args.dtype == DType::kBF16) return norm_rope<bf16>(args, begin, end);
  norm_rope<float>(args, begin, end);
}

}  // namespace
}  // namespace dither::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace dither::cpu {

HWY_EXPORT(LayerNorm);
HWY_EXPORT(RmsNorm);
HWY_EXPORT(ChannelNorm);
HWY_EXPORT(NormRope);

void layer_norm_rows(const NormArgs& args, std::int64_t begin, std::int64_t end) {
  HWY_DYNAMIC_DISPATCH(LayerNorm)(args, begin, end);
}

void rms_norm_rows(const NormArgs& args, std::int64_t begin, std::int64_t end) {
  HWY_DYNAMIC_DISPATCH(RmsNorm)(args, begin, end);
}

void channel_norm_rows(const ChannelNormArgs& args, std::int64_t begin, std::int64_t end) {
  HWY_DYNAMIC_DISPATCH(ChannelNorm)(args, begin, end);
}

void norm_rope_rows(const RopeArgs& args, std::int64_t begin, std::int64_t end) {
  HWY_DYNAMIC_DISPATCH(NormRope)(args, begin, end);
}

}  // namespace dither::cpu
#endif  // HWY_ONCE
