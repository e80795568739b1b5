#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backends/cpu/group_norm_kernels.cc"
#include <hwy/foreach_target.h>
// foreach_target.h comes first; this file is included again for every instruction set.
#include <algorithm>
#include <vector>

#include "backends/cpu/kernels.h"
#include "backends/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace dither::cpu::HWY_NAMESPACE {
namespace {

/// Adds the moments of each group in a block of pixels that stays in cache between the two passes
/// (mean, then squared deviations), so that memory is read once and nothing cancels.
template <class T>
void block_moments(const GroupNormArgs& args, std::int64_t begin, std::int64_t end, float* sums,
                   float* means, Moments* moments) {
  const T* x = reinterpret_cast<const T*>(args.x);
  const std::int64_t channels = args.channels;
  const std::int64_t width = channels / args.groups;
  const auto count = static_cast<double>((end - begin) * width);
  const auto group_sum = [&](std::int64_t group) {
    double sum = 0;
    for (std::int64_t c = 0; c < width; ++c) sum += sums[group * width + c];
    return sum;
  };
  std::fill_n(sums, channels, 0.0F);
  for (std::int64_t pixel = begin; pixel < end; ++pixel) {
    each_vector(channels, [&](std::int64_t i, auto part) HWY_ATTR {
      store(load(sums + i, part) + load(x + pixel * channels + i, part), sums + i, part);
    });
  }
  for (std::int64_t group = 0; group < args.groups; ++group) {
    std::fill_n(means + group * width, width, static_cast<float>(group_sum(group) / count));
  }
  std::fill_n(sums, channels, 0.0F);
  for (std::int64_t pixel = begin; pixel < end; ++pixel) {
    each_vector(channels, [&](std::int64_t i, auto part) HWY_ATTR {
      const VF v = load(x + pixel * channels + i, part) - load(means + i, part);
      store(hn::MulAdd(v, v, load(sums + i, part)), sums + i, part);
    });
  }
  for (std::int64_t group = 0; group < args.groups; ++group) {
    moments[group].merge({count, means[group * width], group_sum(group)});
  }
}

void GroupMoments(const GroupNormArgs& args, std::int64_t begin, std::int64_t end,
                  Moments* moments) {
  // 16 KiB of float32: half of a first-level cache.
  const std::int64_t block = std::max<std::int64_t>(1, 4096 / args.channels);
  std::vector<float> scratch(static_cast<std::size_t>(2 * args.channels));
  float* means = scratch.data() + args.channels;
  for (std::int64_t pixel = begin; pixel < end; pixel += block) {
    const std::int64_t last = std::min(end, pixel + block);
    if (args.dtype == DType::kBF16) {
      block_moments<bf16>(args, pixel, last, scratch.data(), means, moments);
    } else {
      block_moments<float>(args, pixel, last, scratch.data(), means, moments);
    }
  }
}

template <class T>
void normalise(const GroupNormArgs& args, const float* mean, const float* scale, const float* shift,
               std::int64_t begin, std::int64_t end) {
  for (std::int64_t pixel = begin; pixel < end; ++pixel) {
    const T* x = reinterpret_cast<const T*>(args.x) + pixel * args.channels;
    T* y = reinterpret_cast<T*>(args.y) + pixel * args.channels;
    each_vector(args.channels, [&](std::int64_t i, auto part) HWY_ATTR {
      const VF centred = load(x + i, part) - load(mean + i, part);
      const VF v = hn::MulAdd(centred, load(scale + i, part), load(shift + i, part));
      store(activation(args.activation, v), y + i, part);
    });
  }
}

void GroupNormPixels(const GroupNormArgs& args, const float* mean, const float* scale,
                     const float* shift, std::int64_t begin, std::int64_t end) {
  if (args.dtype == DType::kBF16) return normalise<bf16>(args, mean, scale, shift, begin, end);
  normalise<float>(args, mean, scale, shift, begin, end);
}

}  // namespace
}  // namespace dither::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace dither::cpu {

HWY_EXPORT(GroupMoments);
HWY_EXPORT(GroupNormPixels);

void Moments::merge(const Moments& other) {
  const double total = count + other.count;
  if (total == 0) return;
  const double delta = other.mean - mean;
  mean += delta * other.count / total;
  m2 += other.m2 + delta * delta * count * other.count / total;
  count = total;
}

void group_moments(const GroupNormArgs& args, std::int64_t begin, std::int64_t end,
                   Moments* moments) {
  HWY_DYNAMIC_DISPATCH(GroupMoments)(args, begin, end, moments);
}

void group_norm_pixels(const GroupNormArgs& args, const float* mean, const float* scale,
                       const float* shift, std::int64_t begin, std::int64_t end) {
  HWY_DYNAMIC_DISPATCH(GroupNormPixels)(args, mean, scale, shift, begin, end);
}

}  // namespace dither::cpu
#endif  // HWY_ONCE
