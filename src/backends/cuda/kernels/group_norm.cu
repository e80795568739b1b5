#include <algorithm>
#include <string>

#include "backends/cuda/cuda_check.h"
#include "backends/cuda/kernels/common.cuh"
#include "backends/cuda/kernels/group_norm.h"

namespace dither::cuda {
namespace {

constexpr int kThreads = 512;
/// Pixels that a thread loads before it uses the first: enough bytes under way for the memory, in
/// registers that leave room for two blocks.
constexpr int kMomentsUnroll = 4;
constexpr int kNormalizeUnroll = 2;
constexpr std::int64_t kPixelsPerPart = 64;
constexpr std::int64_t kMaxParts = 264;  ///< two for each of a Hopper's multiprocessors

std::int64_t parts_of(std::int64_t pixels) {
  return std::clamp<std::int64_t>(pixels / kPixelsPerPart, 1, kMaxParts);
}

/// Count, mean and sum of squared deviations, merged as Chan et al. 1979.
struct Moments {
  float count = 0;
  float mean = 0;
  float m2 = 0;

  __device__ void merge(const Moments& other) {
    if (other.count == 0) return;
    const float total = count + other.count;
    const float delta = other.mean - mean;
    const float share = other.count / total;
    mean += delta * share;
    m2 += other.m2 + delta * delta * count * share;
    count = total;
  }
};

/// V elements as they lie in memory.
template <typename T, int V>
struct alignas(V * sizeof(T)) Vector {
  T elements[V];
};

template <int V, typename T>
__device__ Vector<T, V> vector_at(const T* from) {
  return *reinterpret_cast<const Vector<T, V>*>(from);
}

template <typename T, int V>
__device__ void accumulate(const Vector<T, V>& raw, const float (&pivot)[V], float (&sum)[V],
                           float (&squares)[V]) {
#pragma unroll
  for (int j = 0; j < V; ++j) {
    const float d = to_f32(raw.elements[j]) - pivot[j];
    sum[j] += d;
    squares[j] += d * d;
  }
}

template <int V>
__device__ void store_floats(const float (&values)[V], float* to) {
  constexpr int kAtATime = V < 4 ? V : 4;
#pragma unroll
  for (int first = 0; first < V; first += kAtATime) {
    Vector<float, kAtATime> part;
#pragma unroll
    for (int j = 0; j < kAtATime; ++j) part.elements[j] = values[first + j];
    *reinterpret_cast<Vector<float, kAtATime>*>(to + first) = part;
  }
}

/// Moments of every group in one part of one sample's pixels. A thread has V channels of every
/// `lanes`-th pixel; sums are of differences from the part's first pixel, which keeps them small
/// where the mean is large. Blocks begin with the last part, which the L2 cache may still hold as
/// it was written, and leave the first ones in it for normalize().
template <typename T, int V>
__global__ void __launch_bounds__(kThreads)
    part_moments(GroupNormArgs args, int parts, float* out) {
  extern __shared__ float shared[];  // [lanes, vectors, V] sums, then as many sums of squares
  const int vectors = static_cast<int>(args.channels) / V;
  const int lanes = kThreads / vectors;
  const int vector = static_cast<int>(threadIdx.x) % vectors;
  const int lane = static_cast<int>(threadIdx.x) / vectors;
  const int part = parts - 1 - static_cast<int>(blockIdx.x);
  const std::int64_t sample = blockIdx.y;
  const std::int64_t begin = args.pixels * part / parts;
  const std::int64_t end = args.pixels * (part + 1) / parts;
  const T* const x =
      static_cast<const T*>(args.x) + sample * args.pixels * args.channels + vector * V;

  float pivot[V];
  load(x + begin * args.channels, pivot);
  float sum[V] = {};
  float squares[V] = {};
  const int channels = vectors * V;
  float* const squares_of = shared + lanes * channels;
  if (lane < lanes) {
    std::int64_t pixel = begin + lane;
    for (; pixel + (kMomentsUnroll - 1) * lanes < end; pixel += kMomentsUnroll * lanes) {
      Vector<T, V> raw[kMomentsUnroll];
#pragma unroll
      for (int i = 0; i < kMomentsUnroll; ++i)
        raw[i] = vector_at<V>(x + (pixel + i * lanes) * channels);
#pragma unroll
      for (int i = 0; i < kMomentsUnroll; ++i) accumulate(raw[i], pivot, sum, squares);
    }
    for (; pixel < end; pixel += lanes) {
      accumulate(vector_at<V>(x + pixel * channels), pivot, sum, squares);
    }
    const int own = lane * channels + vector * V;
    store_floats(sum, shared + own);
    store_floats(squares, squares_of + own);
  }
  __syncthreads();
  // Channels: the lanes' sums become a mean and squared deviations, stored in the first lane's
  // place.
  const auto count = static_cast<float>(end - begin);
  for (int c = static_cast<int>(threadIdx.x); c < channels; c += kThreads) {
    float s = 0;
    float q = 0;
    for (int i = 0; i < lanes; ++i) {
      s += shared[i * channels + c];
      q += squares_of[i * channels + c];
    }
    shared[c] = to_f32(x[begin * channels + c - vector * V]) + s / count;
    squares_of[c] = fmaxf(q - s * s / count, 0.0F);
  }
  __syncthreads();
  const int width = static_cast<int>(args.channels) / args.groups;
  for (int group = static_cast<int>(threadIdx.x); group < args.groups; group += kThreads) {
    Moments total;
    for (int c = group * width; c < (group + 1) * width; ++c) {
      total.merge({count, shared[c], squares_of[c]});
    }
    float* const to = out + ((sample * parts + part) * args.groups + group) * 3;
    to[0] = total.count;
    to[1] = total.mean;
    to[2] = total.m2;
  }
}

/// Merges the parts: statistics[sample][group] = mean, 1 / sqrt(var + eps). A block per group.
__global__ void merge_parts(GroupNormArgs args, int parts, const float* partial,
                            float* statistics) {
  __shared__ Moments shared[128];
  const int group = static_cast<int>(blockIdx.x);
  const std::int64_t sample = blockIdx.y;
  Moments total;
  for (int part = static_cast<int>(threadIdx.x); part < parts; part += 128) {
    const float* const from = partial + ((sample * parts + part) * args.groups + group) * 3;
    total.merge({from[0], from[1], from[2]});
  }
  shared[threadIdx.x] = total;
  for (int half = 64; half > 0; half /= 2) {
    __syncthreads();
    if (static_cast<int>(threadIdx.x) < half) shared[threadIdx.x].merge(shared[threadIdx.x + half]);
  }
  if (threadIdx.x == 0) {
    float* const to = statistics + (sample * args.groups + group) * 2;
    to[0] = shared[0].mean;
    to[1] = rsqrtf(shared[0].m2 / shared[0].count + args.eps);
  }
}

/// Where the activation is not known when this is compiled, all of them would cost registers.
template <typename T, int V, bool kSilu>
__global__ void __launch_bounds__(kThreads, 2)
    normalize(GroupNormArgs args, const float* statistics) {
  const int vectors = static_cast<int>(args.channels) / V;
  const int lanes = kThreads / vectors;
  const int vector = static_cast<int>(threadIdx.x) % vectors;
  const int lane = static_cast<int>(threadIdx.x) / vectors;
  if (lane >= lanes) return;
  const std::int64_t sample = blockIdx.y;
  const int width = static_cast<int>(args.channels) / args.groups;
  float weight[V];
  float bias[V];
  load(static_cast<const T*>(args.weight) + vector * V, weight);
  load(static_cast<const T*>(args.bias) + vector * V, bias);
  float mean[V];
#pragma unroll
  for (int j = 0; j < V; ++j) {
    const float* const s = statistics + (sample * args.groups + (vector * V + j) / width) * 2;
    mean[j] = s[0];
    weight[j] *= s[1];
  }
  const std::int64_t base = sample * args.pixels * args.channels + vector * V;
  const T* const x = static_cast<const T*>(args.x) + base;
  T* const y = static_cast<T*>(args.y) + base;
  const auto write = [&](const Vector<T, V>& raw, std::int64_t pixel) {
    float v[V];
#pragma unroll
    for (int j = 0; j < V; ++j) v[j] = (to_f32(raw.elements[j]) - mean[j]) * weight[j] + bias[j];
    apply_before_rounding<T>(kSilu ? ops::Activation::kSilu : args.activation, v);
    store(v, y + pixel * args.channels);
  };
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * kNormalizeUnroll * lanes;
  for (std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * kNormalizeUnroll * lanes + lane;
       first < args.pixels; first += step) {
    Vector<T, V> raw[kNormalizeUnroll];
#pragma unroll
    for (int i = 0; i < kNormalizeUnroll; ++i) {
      const std::int64_t pixel = first + i * lanes;
      if (pixel < args.pixels) raw[i] = vector_at<V>(x + pixel * args.channels);
    }
#pragma unroll
    for (int i = 0; i < kNormalizeUnroll; ++i) {
      const std::int64_t pixel = first + i * lanes;
      if (pixel < args.pixels) write(raw[i], pixel);
    }
  }
}

template <typename T, int V>
void launch(const GroupNormArgs& args, cudaStream_t stream) {
  const std::int64_t vectors = args.channels / V;
  if (vectors > kThreads) {
    throw Error(ErrorCode::kUnsupported, "cuda: group_norm over " + std::to_string(args.channels) +
                                             " channels, " + std::to_string(kThreads * V) +
                                             " are the most");
  }
  const std::int64_t lanes = kThreads / vectors;
  const auto parts = static_cast<int>(parts_of(args.pixels));
  float* const statistics = args.workspace;
  float* const partial = statistics + args.samples * args.groups * 2;
  const auto samples = static_cast<unsigned>(args.samples);
  const auto shared = static_cast<std::size_t>(lanes * vectors * V * 2) * sizeof(float);
  part_moments<T, V><<<dim3(static_cast<unsigned>(parts), samples), kThreads, shared, stream>>>(
      args, parts, partial);
  merge_parts<<<dim3(static_cast<unsigned>(args.groups), samples), 128, 0, stream>>>(
      args, parts, partial, statistics);
  const unsigned blocks = std::min(blocks_for(args.pixels, lanes * kNormalizeUnroll), 132U * 16U);
  const dim3 grid(blocks, samples);
  if (args.activation == ops::Activation::kSilu) {
    normalize<T, V, true><<<grid, kThreads, 0, stream>>>(args, statistics);
  } else {
    normalize<T, V, false><<<grid, kThreads, 0, stream>>>(args, statistics);
  }
}

}  // namespace

std::size_t group_norm_workspace_floats(std::int64_t samples, std::int64_t pixels, int groups) {
  return static_cast<std::size_t>(samples * groups * (2 + 3 * parts_of(pixels)));
}

void launch_group_norm(const GroupNormArgs& args, cudaStream_t stream) {
  if (args.samples == 0 || args.pixels == 0) return;
  with_element(args.dtype, [&](auto element) {
    using T = decltype(element);
    constexpr int V = kLanes<T>;
    const auto fits = [&](const void* data) {
      return vectors_fit(data, args.channels, args.channels, sizeof(T));
    };
    if (fits(args.x) && fits(args.y) && fits(args.weight) && fits(args.bias)) {
      launch<T, V>(args, stream);
    } else {
      launch<T, 1>(args, stream);
    }
  });
  check_launch("launch group_norm");
}

}  // namespace dither::cuda
