#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backends/cpu/attention_kernels.cc"
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

// Register tile of the two products: kTileRows x kTileVectors accumulators, a broadcast and one row
// of the panel fit the 32 registers of AVX-512 and the 16 of older instruction sets.
constexpr std::int64_t kTileRows = 6;
constexpr std::int64_t kTileVectors = HWY_TARGET <= HWY_AVX3 ? 4 : 2;
// Queries that share one pass over the packed keys and values, and the keys that a block of values
// holds so that it stays in the second-level cache.
constexpr std::int64_t kQueryBlock = 4 * kTileRows;
constexpr std::int64_t kKeyBlock = 256;

HWY_INLINE std::int64_t panel_width() {
  return kTileVectors * static_cast<std::int64_t>(hn::Lanes(F32()));
}

HWY_INLINE std::int64_t round_up(std::int64_t value, std::int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

/// What one head needs, carved from one buffer.
struct Layout {
  explicit Layout(const AttentionArgs& args)
      : key_stride(round_up(args.keys, panel_width())),
        value_stride(round_up(args.head_dim, panel_width())),
        scores(kQueryBlock * round_up(args.head_dim, panel_width())),
        output(scores + kQueryBlock * key_stride),
        keys(output + kQueryBlock * value_stride),
        values(keys + key_stride * args.head_dim),
        size(values + value_stride * args.keys) {}

  std::int64_t key_stride;
  std::int64_t value_stride;
  // Offsets, in floats. The block of queries [kQueryBlock, D], scaled, lies at 0.
  std::int64_t scores;  // [kQueryBlock, key_stride]
  std::int64_t output;  // [kQueryBlock, value_stride]
  std::int64_t keys;    // K^T in panels: [Lk / width][D][width]
  std::int64_t values;  // V in panels: [D / width][Lk][width]
  std::int64_t size;
};

struct Scratch : Layout {
  Scratch(const AttentionArgs& args, float* memory)
      : Layout(args),
        query(memory),
        scores(memory + Layout::scores),
        output(memory + Layout::output),
        keys(memory + Layout::keys),
        values(memory + Layout::values) {}

  float* query;
  float* scores;
  float* output;
  float* keys;
  float* values;
};

/// c [kTileRows, width] = a [kTileRows, depth] * panel [depth, width], or += with kAdd.
template <bool kAdd>
HWY_INLINE void tile(const float* HWY_RESTRICT a, std::int64_t a_stride,
                     const float* HWY_RESTRICT panel, std::int64_t depth, float* HWY_RESTRICT c,
                     std::int64_t c_stride) {
  const F32 d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  VF sum[kTileRows][kTileVectors];
  for (auto& row : sum) {
    for (VF& v : row) v = hn::Zero(d);
  }
  for (std::int64_t k = 0; k < depth; ++k) {
    VF b[kTileVectors];
    for (std::int64_t j = 0; j < kTileVectors; ++j) b[j] = hn::Load(d, panel + j * lanes);
    panel += kTileVectors * lanes;
    for (std::int64_t i = 0; i < kTileRows; ++i) {
      const VF broadcast = hn::Set(d, a[i * a_stride + k]);
      for (std::int64_t j = 0; j < kTileVectors; ++j) {
        sum[i][j] = hn::MulAdd(broadcast, b[j], sum[i][j]);
      }
    }
  }
  for (std::int64_t i = 0; i < kTileRows; ++i) {
    for (std::int64_t j = 0; j < kTileVectors; ++j) {
      float* target = c + i * c_stride + j * lanes;
      hn::Store(kAdd ? sum[i][j] + hn::Load(d, target) : sum[i][j], d, target);
    }
  }
}

template <class T>
void pack_keys(const AttentionArgs& args, const T* k, const Scratch& s) {
  const std::int64_t width = panel_width();
  for (std::int64_t token = 0; token < s.key_stride; ++token) {
    float* column = s.keys + token / width * width * args.head_dim + token % width;
    for (std::int64_t i = 0; i < args.head_dim; ++i) {
      column[i * width] = token < args.keys ? to_float(k[token * args.k.token_stride + i]) : 0.0F;
    }
  }
}

template <class T>
void pack_values(const AttentionArgs& args, const T* v, const Scratch& s) {
  const std::int64_t width = panel_width();
  for (std::int64_t first = 0; first < s.value_stride; first += width) {
    const std::int64_t used = std::min(width, args.head_dim - first);
    for (std::int64_t token = 0; token < args.keys; ++token) {
      float* row = s.values + first * args.keys + token * width;
      const T* from = v + token * args.v.token_stride + first;
      each_vector(used, [&](std::int64_t i, auto part)
                            HWY_ATTR { store(load(from + i, part), row + i, part); });
      std::fill(row + used, row + width, 0.0F);
    }
  }
}

/// row = exp(row - max), zero beyond `visible`; returns the sum.
HWY_INLINE float softmax_numerators(float* row, const float* bias, std::int64_t visible,
                                    std::int64_t keys) {
  const F32 d;
  VF largest = hn::Set(d, -INFINITY);
  each_vector(visible, [&](std::int64_t i, auto part) HWY_ATTR {
    VF v = load(row + i, part);
    if (bias != nullptr) {
      v += load(bias + i, part);
      store(v, row + i, part);
    }
    if constexpr (std::is_same_v<decltype(part), Tail>) {
      v = hn::IfThenElse(hn::FirstN(d, part.count), v, largest);
    }
    largest = hn::Max(largest, v);
  });
  const VF offset = hn::Set(d, max_of_lanes(largest));
  VF sum = hn::Zero(d);
  each_vector(visible, [&](std::int64_t i, auto part) HWY_ATTR {
    VF v = hn::Exp(d, load(row + i, part) - offset);
    if constexpr (std::is_same_v<decltype(part), Tail>) {
      v = hn::IfThenElseZero(hn::FirstN(d, part.count), v);
    }
    sum += v;
    store(v, row + i, part);
  });
  std::fill(row + visible, row + keys, 0.0F);
  return sum_of_lanes(sum);
}

/// One block of queries against all keys of the head. The scores of a whole block are kept, which
/// needs no rescaling of partial results: 24 rows of 4608 keys are 442 KiB.
template <class T>
void query_block(const AttentionArgs& args, const Scratch& s, const T* q, const float* bias,
                 std::int64_t begin, std::int64_t count, T* y) {
  const std::int64_t d = args.head_dim;
  const std::int64_t width = panel_width();
  const std::int64_t rows = round_up(count, kTileRows);
  const VF scale = hn::Set(F32(), args.scale);
  for (std::int64_t i = 0; i < rows; ++i) {
    const T* from = q + std::min(begin + i, args.queries - 1) * args.q.token_stride;
    each_vector(d, [&](std::int64_t c, auto part) HWY_ATTR {
      store(load(from + c, part) * scale, s.query + i * d + c, part);
    });
  }
  for (std::int64_t panel = 0; panel < s.key_stride; panel += width) {
    for (std::int64_t i = 0; i < rows; i += kTileRows) {
      tile<false>(s.query + i * d, d, s.keys + panel * d, d, s.scores + i * s.key_stride + panel,
                  s.key_stride);
    }
  }
  float sums[kQueryBlock];
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t query = begin + i;
    const std::int64_t visible = args.causal ? std::min(args.keys, query + 1) : args.keys;
    sums[i] = softmax_numerators(s.scores + i * s.key_stride,
                                 bias != nullptr ? bias + query * args.keys : nullptr, visible,
                                 args.keys);
  }
  std::fill_n(s.output, rows * s.value_stride, 0.0F);
  // Partial sums per block of keys also keep a long sum's rounding error small.
  for (std::int64_t key = 0; key < args.keys; key += kKeyBlock) {
    const std::int64_t depth = std::min(kKeyBlock, args.keys - key);
    for (std::int64_t panel = 0; panel < s.value_stride; panel += width) {
      for (std::int64_t i = 0; i < rows; i += kTileRows) {
        tile<true>(s.scores + i * s.key_stride + key, s.key_stride,
                   s.values + panel * args.keys + key * width, depth,
                   s.output + i * s.value_stride + panel, s.value_stride);
      }
    }
  }
  for (std::int64_t i = 0; i < count; ++i) {
    const VF factor = hn::Set(F32(), 1.0F / sums[i]);
    T* to = y + (begin + i) * args.heads * d;
    each_vector(d, [&](std::int64_t c, auto part) HWY_ATTR {
      store(load(s.output + i * s.value_stride + c, part) * factor, to + c, part);
    });
  }
}

template <class T>
void head_attention(const AttentionArgs& args, std::int64_t sample, std::int64_t head,
                    std::int64_t begin, std::int64_t end, float* memory) {
  const Scratch s(args, memory);
  const auto start = [&](const HeadsView& view) {
    return reinterpret_cast<const T*>(view.data) + sample * view.sample_stride +
           head * view.head_stride;
  };
  pack_keys(args, start(args.k), s);
  pack_values(args, start(args.v), s);
  const float* bias = args.bias != nullptr ? args.bias + head * args.queries * args.keys : nullptr;
  T* y = reinterpret_cast<T*>(args.y) + (sample * args.queries * args.heads + head) * args.head_dim;
  for (std::int64_t query = begin; query < end; query += kQueryBlock) {
    query_block(args, s, start(args.q), bias, query, std::min(kQueryBlock, end - query), y);
  }
}

void AttentionHead(const AttentionArgs& args, std::int64_t sample, std::int64_t head,
                   std::int64_t begin, std::int64_t end, float* memory) {
  if (args.dtype == DType::kBF16) {
    return head_attention<bf16>(args, sample, head, begin, end, memory);
  }
  head_attention<float>(args, sample, head, begin, end, memory);
}

std::int64_t AttentionScratch(const AttentionArgs& args) { return Layout(args).size; }

}  // namespace
}  // namespace dither::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace dither::cpu {

HWY_EXPORT(AttentionHead);
HWY_EXPORT(AttentionScratch);

std::int64_t attention_scratch(const AttentionArgs& args) {
  return HWY_DYNAMIC_DISPATCH(AttentionScratch)(args);
}

void attention_head(const AttentionArgs& args, std::int64_t sample, std::int64_t head,
                    std::int64_t begin, std::int64_t end, float* scratch) {
  HWY_DYNAMIC_DISPATCH(AttentionHead)(args, sample, head, begin, end, scratch);
}

}  // namespace dither::cpu
#endif  // HWY_ONCE
