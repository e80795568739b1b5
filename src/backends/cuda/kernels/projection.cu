#include <cuda.h>

#include <algorithm>
#include <array>

#include "backends/cuda/cuda_check.h"
#include "backends/cuda/kernels/common.cuh"
#include "backends/cuda/kernels/hopper.cuh"
#include "backends/cuda/kernels/projection.h"
#include "backends/cuda/kernels/projection_epilogue.cuh"
#include "backends/cuda/kernels/tensor_map.h"
#include "backends/cuda/multiprocessors.h"

namespace dither::cuda {
namespace {

using namespace epilogue;  // NOLINT(google-build-using-namespace)

// A block of three warpgroups makes tiles of 128 x 256: one thread of the first fetches, the other
// two multiply 64 rows each. Two blocks make a cluster: they have 256 rows and the same columns,
// and each fetches half of the weight for both.
constexpr int kWarpgroup = 128;
constexpr int kThreads = 3 * kWarpgroup;
constexpr int kCluster = 2;
constexpr int kRows = 128;   ///< of x, per block
constexpr int kDepth = 128;  ///< bytes of a row per stage: the swizzle's width
constexpr int kStages = 4;
constexpr int kXBytes = kRows * kDepth;
constexpr int kWBytes = kColumns * kDepth;
constexpr int kStageBytes = kXBytes + kWBytes;
constexpr int kSharedBytes = kStages * kStageBytes + 1024;  // to begin at a multiple of 1024

/// At most so many row tiles are walked through before the next columns. x's rows stay in the
/// second-level cache meanwhile, and every group reads the whole weight once more: of FLUX.2's 18
/// (4608 rows of 6144 bytes), two groups are faster than one or five.
constexpr int kMaxRowTilesOfGroup = 10;

struct Params {
  CUtensorMap x;
  CUtensorMap w;
  ProjectionArgs args;
  int row_tiles;     ///< of the cluster: 256 rows
  int head_tiles;    ///< of 256 columns
  int column_tiles;  ///< heads' and gated ones'
  int group;         ///< row tiles that are walked through before the next columns
  int stages_of_k;   ///< ceil(K bytes / kDepth)
};

struct Tile {
  int row;     ///< first of the cluster
  int column;  ///< index of column tiles
};

__device__ Tile tile_at(const Params& p, int index) {
  const int per_group = p.group * p.column_tiles;
  const int first = index / per_group * p.group;
  const int rows = min(p.group, p.row_tiles - first);
  const int inside = index % per_group;
  return {(first + inside % rows) * kRows * kCluster, inside / rows};
}

/// The weight's first row of a half of a column tile.
__device__ int weight_row(const Params& p, int column, int half) {
  if (column < p.head_tiles) return (2 * column + half) * kHalf;
  const auto heads = static_cast<int>(3 * p.args.heads * p.args.head_dim);
  const int gated = heads + (column - p.head_tiles) * kHalf;
  return half == 0 ? gated : gated + static_cast<int>(p.args.gated);
}

struct Shared {
  std::byte* stages;
  std::uint64_t* full;
  std::uint64_t* empty;
  const Norms& norms;
  __device__ std::byte* x(int stage) const { return stages + stage * kStageBytes; }
  __device__ std::byte* w(int stage) const { return x(stage) + kXBytes; }
};

template <typename Element>
__device__ void fetch(const Params& p, const Shared& shared) {
  constexpr int kStep = kDepth / static_cast<int>(sizeof(Element));
  const int rank = static_cast<int>(rank_in_cluster());
  const int total = p.row_tiles * p.column_tiles;
  Turn<kStages> turn;
  for (int i = static_cast<int>(blockIdx.x) / kCluster; i < total;
       i += static_cast<int>(gridDim.x) / kCluster) {
    const Tile tile = tile_at(p, i);
    const int x_row = tile.row + rank * kRows;
    const int w_row = weight_row(p, tile.column, rank) / kOrdered;
    for (int k = 0; k < p.stages_of_k; ++k) {
      std::uint64_t* const full = &shared.full[turn.stage];
      wait_barrier(&shared.empty[turn.stage], turn.phase ^ 1U);
      arrive_and_expect(full, kStageBytes);
      load_box(shared.x(turn.stage), p.x, full, k * kStep, x_row);
      load_box_to((1U << kCluster) - 1, shared.w(turn.stage) + rank * (kWBytes / kCluster), p.w,
                  full, k * kStep, w_row);
      turn.next();
    }
  }
}

/// Tells both blocks that this warp has read a stage.
__device__ inline void release(const Shared& shared, int stage) {
  const unsigned lane = threadIdx.x % 32;
  if (lane < kCluster) arrive_at(&shared.empty[stage], lane);
}

/// A product of 64 rows and 256 columns, whose last part is still under way at the end. Returns the
/// stage that this part reads.
template <typename Element>
__device__ int multiply(const Params& p, const Shared& shared, int warpgroup, Turn<kStages>& turn,
                        float (&sums)[kColumns / 2]) {
  int before = 0;
  for (int k = 0; k < p.stages_of_k; ++k) {
    wait_barrier(&shared.full[turn.stage], turn.phase);
    const std::uint64_t a = matrix_descriptor(shared.x(turn.stage) + warpgroup * (kXBytes / 2));
    const std::uint64_t b = matrix_descriptor(shared.w(turn.stage));
    fence_products();
#pragma unroll
    for (int step = 0; step < kDepth / 32; ++step) {
      const int add = k > 0 || step > 0;
      if constexpr (sizeof(Element) == 1) {
        multiply_e4m3(sums, a + 2 * step, b + 2 * step, add);
      } else {
        multiply_bf16(sums, a + 2 * step, b + 2 * step, add);
      }
    }
    commit_products();
    if (k > 0) {
      wait_products<1>();
      release(shared, before);
    }
    before = turn.stage;
    turn.next();
  }
  return before;
}

template <typename Element>
__device__ void multiply_tiles(const Params& p, const Shared& shared, int warpgroup) {
  // Of the tile before, warps may still read what is here.
  __shared__ float2 columns_of_tiles[2][2][kColumns];
  __shared__ float scratch[2][2][8];
  const int total = p.row_tiles * p.column_tiles;
  const int rank = static_cast<int>(rank_in_cluster());
  const int thread = static_cast<int>(threadIdx.x) % kWarpgroup;
  const Columns columns{thread % 32};
  const bool uniform = p.args.bias == nullptr && p.args.row_scales == nullptr;
  float sums[kColumns / 2];
  Turn<kStages> turn;
  int parity = 0;
  for (int i = static_cast<int>(blockIdx.x) / kCluster; i < total;
       i += static_cast<int>(gridDim.x) / kCluster) {
    const Tile tile = tile_at(p, i);
    float2 of_columns[2] = {};
#pragma unroll
    for (int half = 0; half < 2 && !uniform; ++half) {
      of_columns[half] = scale_and_bias(p.args, weight_row(p, tile.column, half) + thread);
    }
    const int last = multiply<Element>(p, shared, warpgroup, turn, sums);
    const Group group{warpgroup, thread / 32, tile.row + rank * kRows + warpgroup * 64};
    const int row = group.row + group.warp * 16 + columns.lane / 4;
    const bool of_heads = tile.column < p.head_tiles;
    Rows rows;
    if (of_heads) {
      load_rows(p.args, row, 2 * tile.column < 2 * static_cast<int>(p.args.heads), columns, rows);
    }
    float2* const columns_of_tile = columns_of_tiles[parity][warpgroup];
    if (!uniform) {
      columns_of_tile[thread] = of_columns[0];
      columns_of_tile[kHalf + thread] = of_columns[1];
      sync_warpgroup(warpgroup);
    }
    wait_products<0>();
    hold_sums(sums);
    release(shared, last);
    if (uniform) {
      scale_all(sums, p.args.alpha);
    } else {
      finish(sums, columns_of_tile, columns);
    }
    if (of_heads) {
      write_heads(p.args, sums, 2 * tile.column, shared.norms, rows, columns, group,
                  scratch[parity][warpgroup]);
    } else {
      write_gated(p.args, sums, row, (tile.column - p.head_tiles) * kHalf, columns);
    }
    parity ^= 1;
  }
}

template <typename Element>
__global__ void __cluster_dims__(kCluster, 1, 1) __launch_bounds__(kThreads, 1)
    project(const __grid_constant__ Params p) {
  extern __shared__ std::byte raw[];
  __shared__ std::uint64_t full[kStages];
  __shared__ std::uint64_t empty[kStages];
  __shared__ alignas(16) Norms norms;
  const std::uint32_t address = shared_address(raw);
  const Shared shared{raw + ((address + 1023U) / 1024U * 1024U - address), full, empty, norms};
  if (p.args.heads > 0 && threadIdx.x < 2 * kProjectedHeadDim) {
    const auto part = threadIdx.x / kProjectedHeadDim;
    const auto channel = threadIdx.x % kProjectedHeadDim;
    norms[part][channel] =
        static_cast<const Bf16*>(part == 0 ? p.args.q_norm : p.args.k_norm)[channel];
  }
  if (threadIdx.x == 0) {
    prefetch_map(p.x);
    prefetch_map(p.w);
    for (int i = 0; i < kStages; ++i) {
      init_barrier(&full[i], 1);
      init_barrier(&empty[i], kCluster * 8);  // the cluster's multiplying warps
    }
    fence_barrier_init();
  }
  sync_cluster();
  const int warpgroup = static_cast<int>(threadIdx.x) / kWarpgroup;
  if (warpgroup == 0) {
    give_registers<40>();
    if (threadIdx.x == 0) fetch<Element>(p, shared);
  } else {
    take_registers<232>();
    multiply_tiles<Element>(p, shared, warpgroup - 1);
  }
  sync_cluster();  // neither ends while the other still sends it something
}

std::int64_t element_bytes(const ProjectionArgs& args) {
  return args.dtype == DType::kBF16 ? 2 : 1;
}

CUtensorMap map_of_x(const ProjectionArgs& args) {
  const std::int64_t bytes = element_bytes(args);
  return tensor_map<2>(
      args.dtype, args.x.data,
      {static_cast<std::uint64_t>(args.x.cols), static_cast<std::uint64_t>(args.x.rows)},
      {static_cast<std::uint64_t>(args.x.row_stride * bytes)},
      {static_cast<std::uint32_t>(kDepth / bytes), kRows});
}

/// Rows in the order of kOrdered.
CUtensorMap map_of_w(const ProjectionArgs& args) {
  const auto row = static_cast<std::uint64_t>(args.x.cols * element_bytes(args));
  return tensor_map<5>(
      args.dtype, args.weight,
      {static_cast<std::uint64_t>(args.x.cols), 2, 4, 4,
       static_cast<std::uint64_t>(args.n / kOrdered)},
      {row, 8 * row, 2 * row, kOrdered * row},
      {static_cast<std::uint32_t>(kDepth / element_bytes(args)), 2, 4, 4, kHalf / kOrdered});
}

/// 8 elements, codes or bf16, can be written at once.
bool rows_aligned(const RowView& view) {
  return reinterpret_cast<std::uintptr_t>(view.data) % 16 == 0 && view.row_stride % 8 == 0;
}

/// A warpgroup's 64 rows of x are a block's keys.
bool blocks_fit(const ProjectionArgs& args) {
  const bool one_sample = args.q.rows == args.out_tokens;
  return has_value_blocks(args.first_token, args.tokens, args.out_tokens) &&
         (one_sample || args.tokens % kValueBlockKeys == 0);
}

int count_clusters() { return multiprocessors() / kCluster; }

int tiles(std::int64_t count, std::int64_t size) {
  return static_cast<int>((count + size - 1) / size);
}

int count_head_tiles(const ProjectionArgs& args) { return tiles(3 * args.heads, kColumns / kHalf); }

int count_column_tiles(const ProjectionArgs& args) {
  return count_head_tiles(args) + tiles(args.gated, kHalf);
}

template <typename Element>
void launch(const Params& params, cudaStream_t stream) {
  check(cudaFuncSetAttribute(project<Element>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             kSharedBytes),
        "take shared memory");
  const int clusters = std::min(count_clusters(), params.row_tiles * params.column_tiles);
  project<Element>
      <<<static_cast<unsigned>(clusters * kCluster), kThreads, kSharedBytes, stream>>>(params);
  check_launch("launch projection");
}

}  // namespace

bool projection_fills_device(std::int64_t rows, const ProjectionArgs& args) {
  const int count = tiles(rows, kRows * kCluster) * count_column_tiles(args);
  const int clusters = count_clusters();
  const int rounds = tiles(count, clusters);
  constexpr int kBusyPercent = 87;
  return 100 * count >= kBusyPercent * rounds * clusters;
}

bool projection_fits(const ProjectionArgs& args) {
  const std::int64_t bytes = element_bytes(args);
  const bool heads =
      args.heads == 0 ||
      (args.head_dim == kProjectedHeadDim && rows_aligned(args.q) && rows_aligned(args.k) &&
       (args.v_blocks.codes != nullptr ? blocks_fit(args) : rows_aligned(args.v)));
  const bool gated = args.gated % kOrdered == 0 &&
                     (args.gated == 0 || args.activation == ops::Activation::kSilu) &&
                     (args.gated == 0 || rows_aligned(args.y));
  return heads && gated && args.x.cols * bytes % 16 == 0 && args.x.row_stride * bytes % 16 == 0 &&
         reinterpret_cast<std::uintptr_t>(args.x.data) % 16 == 0 &&
         reinterpret_cast<std::uintptr_t>(args.weight) % 16 == 0;
}

void launch_projection(const ProjectionArgs& args, cudaStream_t stream) {
  if (args.x.rows == 0) return;
  Params params{};
  params.x = map_of_x(args);
  params.w = map_of_w(args);
  params.args = args;
  params.row_tiles = tiles(args.x.rows, kRows * kCluster);
  params.head_tiles = count_head_tiles(args);
  params.column_tiles = count_column_tiles(args);
  params.group = tiles(params.row_tiles, tiles(params.row_tiles, kMaxRowTilesOfGroup));
  params.stages_of_k = tiles(args.x.cols * element_bytes(args), kDepth);
  if (args.dtype == DType::kBF16) {
    launch<Bf16>(params, stream);
  } else {
    launch<std::uint8_t>(params, stream);
  }
}

}  // namespace dither::cuda
