#pragma once

#include <cuda.h>
#include <cuda_runtime.h>

#include <cstdint>

/// Hopper's own instructions (PTX ISA 8.0, sm_90a): barriers in shared memory that count bytes, the
/// bulk tensor copy engine, and warpgroup matrix products.
namespace dither::cuda {

__device__ inline std::uint32_t shared_address(const void* pointer) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(pointer));
}

/// A barrier in shared memory, completed by `arrivals` and all bytes that were announced.
__device__ inline void init_barrier(std::uint64_t* barrier, unsigned arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)),
               "r"(arrivals));
}

/// Initialised barriers are seen by the copy engine and by the other blocks of the cluster.
__device__ inline void fence_barrier_init() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

__device__ inline void arrive(std::uint64_t* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier))
               : "memory");
}

__device__ inline void arrive_and_expect(std::uint64_t* barrier, unsigned bytes) {
  asm volatile(
      "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)),
      "r"(bytes)
      : "memory");
}

/// Arrives at the same barrier of block `rank` of the cluster.
__device__ inline void arrive_at(std::uint64_t* barrier, unsigned rank) {
  asm volatile(
      "{\n"
      ".reg .b32 remote;\n"
      "mapa.shared::cluster.u32 remote, %0, %1;\n"
      "mbarrier.arrive.shared::cluster.b64 _, [remote];\n"
      "}" ::"r"(shared_address(barrier)),
      "r"(rank)
      : "memory");
}

/// Waits for the end of the barrier's phase of this parity.
__device__ inline void wait_barrier(std::uint64_t* barrier, unsigned parity) {
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@!done bra again;\n"
      "}" ::"r"(shared_address(barrier)),
      "r"(parity)
      : "memory");
}

/// Where in a ring of stages a thread is, and the parity of its barriers there.
template <int kStages>
struct Turn {
  int stage = 0;
  unsigned phase = 0;
  __device__ void next() {
    if (++stage == kStages) {
      stage = 0;
      phase ^= 1U;
    }
  }
};

__device__ inline unsigned rank_in_cluster() {
  unsigned rank = 0;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}

__device__ inline void sync_cluster() {
  asm volatile(
      "barrier.cluster.arrive.release.aligned;\n"
      "barrier.cluster.wait.acquire.aligned;" ::
          : "memory");
}

/// A box of a matrix, from column x and row y on, to this block's shared memory.
__device__ inline void load_box(void* to, const CUtensorMap& map, std::uint64_t* barrier, int x,
                                int y) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
      " [%0], [%1, {%3, %4}], [%2];" ::"r"(shared_address(to)),
      "l"(&map), "r"(shared_address(barrier)), "r"(x), "r"(y)
      : "memory");
}

/// A box of a tensor of five dimensions, from (x, 0, 0, 0, w) on, to the same place in all blocks
/// of the cluster that `blocks` has a bit for; each one's barrier counts it.
__device__ inline void load_box_to(unsigned blocks, void* to, const CUtensorMap& map,
                                   std::uint64_t* barrier, int x, int w) {
  asm volatile(
      "cp.async.bulk.tensor.5d.shared::cluster.global.mbarrier::complete_tx::bytes"
      ".multicast::cluster [%0], [%1, {%3, %4, %4, %4, %5}], [%2], %6;" ::"r"(shared_address(to)),
      "l"(&map), "r"(shared_address(barrier)), "r"(x), "r"(0), "r"(w),
      "h"(static_cast<std::uint16_t>(blocks))
      : "memory");
}

/// The same of a tensor of four dimensions.
__device__ inline void load_box(void* to, const CUtensorMap& map, std::uint64_t* barrier, int x,
                                int y, int z, int w) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes"
      " [%0], [%1, {%3, %4, %5, %6}], [%2];" ::"r"(shared_address(to)),
      "l"(&map), "r"(shared_address(barrier)), "r"(x), "r"(y), "r"(z), "r"(w)
      : "memory");
}

/// Bytes as they are, a multiple of 16 at a multiple of 16.
__device__ inline void load_bytes(void* to, const void* from, unsigned bytes,
                                  std::uint64_t* barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
          "r"(shared_address(to)),
      "l"(from), "r"(bytes), "r"(shared_address(barrier))
      : "memory");
}

__device__ inline void prefetch_map(const CUtensorMap& map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
}

/// A barrier of the 128 threads of a warpgroup; `index` tells them apart.
__device__ inline void sync_warpgroup(int index) {
  asm volatile("bar.sync %0, 128;" ::"r"(index + 1) : "memory");
}

/// A turn of one of two warpgroups: take_turn() returns after the other has given it.
__device__ inline void take_turn(int index) {
  asm volatile("bar.sync %0, 256;" ::"r"(index + 1) : "memory");
}
__device__ inline void give_turn(int index) {
  asm volatile("bar.arrive %0, 256;" ::"r"(index + 1) : "memory");
}

template <int kRegisters>
__device__ inline void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ inline void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

/// What wgmma calls its descriptor (PTX ISA, "matrix descriptor format"): where a matrix in shared
/// memory begins, bytes from 8 rows to the next 8 and, where rows lie along the other dimension
/// than K, from 64 elements of a row to the next 64.
__device__ inline std::uint64_t describe_matrix(const void* matrix, std::uint64_t swizzle,
                                                unsigned rows, unsigned chunk) {
  return swizzle << 62U | std::uint64_t{rows >> 4U} << 32U | std::uint64_t{chunk >> 4U} << 16U |
         ((shared_address(matrix) & 0x3FFFFU) >> 4U);
}
/// Rows of 128 bytes, swizzled by 128 bytes, K along the row, at a multiple of 1024 bytes.
__device__ inline std::uint64_t matrix_descriptor(const void* matrix) {
  return describe_matrix(matrix, 1, 1024, 16);
}
/// Rows of 64 bytes, swizzled by 64 bytes, K along the row, at a multiple of 512 bytes.
__device__ inline std::uint64_t narrow_descriptor(const void* matrix) {
  return describe_matrix(matrix, 2, 512, 16);
}
/// Rows of 128 bytes, swizzled by 128 bytes, along the other dimension than K.
__device__ inline std::uint64_t mn_descriptor(const void* matrix, unsigned chunk) {
  return describe_matrix(matrix, 1, 1024, chunk);
}

__device__ inline void fence_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void commit_products() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
/// Waits until at most `kPending` of the committed groups of products are not done.
template <int kPending>
__device__ inline void wait_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

// The sums of a thread as operands of one instruction: 64 rows x 256, 192, 176 or 128 columns over
// the 128 threads of a warpgroup. A list is a shorter one and what follows it.
#define DITHER_TEXT_64                                                                         \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, " \
  "%20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, " \
  "%38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, " \
  "%56, %57, %58, %59, %60, %61, %62, %63"
#define DITHER_SUMS_64(d)                                                                         \
  "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), \
      "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]),    \
      "+f"(d[15]), "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]),  \
      "+f"(d[22]), "+f"(d[23]), "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]),  \
      "+f"(d[29]), "+f"(d[30]), "+f"(d[31]), "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]),  \
      "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]), "+f"(d[40]), "+f"(d[41]), "+f"(d[42]),  \
      "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]), "+f"(d[48]), "+f"(d[49]),  \
      "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]), "+f"(d[56]),  \
      "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63])
#define DITHER_TEXT_88                                                                      \
  DITHER_TEXT_64                                                                            \
  ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, %80, " \
  "%81, %82, %83, %84, %85, %86, %87"
#define DITHER_SUMS_88(d)                                                                          \
  DITHER_SUMS_64(d), "+f"(d[64]), "+f"(d[65]), "+f"(d[66]), "+f"(d[67]), "+f"(d[68]), "+f"(d[69]), \
      "+f"(d[70]), "+f"(d[71]), "+f"(d[72]), "+f"(d[73]), "+f"(d[74]), "+f"(d[75]), "+f"(d[76]),   \
      "+f"(d[77]), "+f"(d[78]), "+f"(d[79]), "+f"(d[80]), "+f"(d[81]), "+f"(d[82]), "+f"(d[83]),   \
      "+f"(d[84]), "+f"(d[85]), "+f"(d[86]), "+f"(d[87])
#define DITHER_TEXT_96 DITHER_TEXT_88 ", %88, %89, %90, %91, %92, %93, %94, %95"
#define DITHER_SUMS_96(d)                                                                          \
  DITHER_SUMS_88(d), "+f"(d[88]), "+f"(d[89]), "+f"(d[90]), "+f"(d[91]), "+f"(d[92]), "+f"(d[93]), \
      "+f"(d[94]), "+f"(d[95])
#define DITHER_TEXT_128                                                                        \
  DITHER_TEXT_96                                                                               \
  ", %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, "   \
  "%111, %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, " \
  "%126, %127"
#define DITHER_SUMS_128(d)                                                                \
  DITHER_SUMS_96(d), "+f"(d[96]), "+f"(d[97]), "+f"(d[98]), "+f"(d[99]), "+f"(d[100]),    \
      "+f"(d[101]), "+f"(d[102]), "+f"(d[103]), "+f"(d[104]), "+f"(d[105]), "+f"(d[106]), \
      "+f"(d[107]), "+f"(d[108]), "+f"(d[109]), "+f"(d[110]), "+f"(d[111]), "+f"(d[112]), \
      "+f"(d[113]), "+f"(d[114]), "+f"(d[115]), "+f"(d[116]), "+f"(d[117]), "+f"(d[118]), \
      "+f"(d[119]), "+f"(d[120]), "+f"(d[121]), "+f"(d[122]), "+f"(d[123]), "+f"(d[124]), \
      "+f"(d[125]), "+f"(d[126]), "+f"(d[127])

/// name(sums, a, b, add): sums (+)= a b^T, where a has 64 rows and b as many as sums has columns,
/// both of 32 bytes in shared memory (matrix_descriptor()); without `add`, what was in sums is
/// dropped. The numbers are those of the operands behind the sums.
#define DITHER_MULTIPLY(name, count, at_a, at_b, at_add, instruction, flags)                    \
  __device__ inline void name(float(&sums)[count], std::uint64_t a, std::uint64_t b, int add) { \
    asm volatile("{\n.reg .pred add;\nsetp.ne.b32 add, %" at_add ", 0;\n" instruction           \
                 " {" DITHER_TEXT_##count "}, %" at_a ", %" at_b ", add, 1, 1" flags ";\n}"     \
                 : DITHER_SUMS_##count(sums)                                                    \
                 : "l"(a), "l"(b), "r"(add));                                                   \
  }
DITHER_MULTIPLY(multiply_e4m3, 128, "128", "129", "130",
                "wgmma.mma_async.sync.aligned.m64n256k32.f32.e4m3.e4m3", "")
DITHER_MULTIPLY(multiply_e4m3, 96, "96", "97", "98",
                "wgmma.mma_async.sync.aligned.m64n192k32.f32.e4m3.e4m3", "")
DITHER_MULTIPLY(multiply_bf16, 128, "128", "129", "130",
                "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16", ", 0, 0")
DITHER_MULTIPLY(multiply_bf16, 88, "88", "89", "90",
                "wgmma.mma_async.sync.aligned.m64n176k16.f32.bf16.bf16", ", 0, 0")

/// name(sums, a, b, add): the same with a in registers, 32 bytes of a row over four threads.
#define DITHER_MULTIPLY_REGISTERS(name, instruction, flags)                                       \
  __device__ inline void name(float(&sums)[64], const std::uint32_t* a, std::uint64_t b,          \
                              int add) {                                                          \
    asm volatile("{\n.reg .pred add;\nsetp.ne.b32 add, %69, 0;\n" instruction " {" DITHER_TEXT_64 \
                 "}, {%64, %65, %66, %67}, %68, add, 1, 1" flags ";\n}"                           \
                 : DITHER_SUMS_64(sums)                                                           \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add));                 \
  }
// b is 128 rows of 32 codes.
DITHER_MULTIPLY_REGISTERS(multiply_e4m3, "wgmma.mma_async.sync.aligned.m64n128k32.f32.e4m3.e4m3",
                          "")
// b is 16 rows of 128 elements, side by side (mn_descriptor()): not transposed.
DITHER_MULTIPLY_REGISTERS(multiply_bf16, "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16",
                          ", 1")

/// Keeps the compiler from reading sums before what stands above this.
#define DITHER_HOLD_SUMS(count)                             \
  __device__ inline void hold_sums(float(&sums)[count]) {   \
    asm volatile("" : DITHER_SUMS_##count(sums)::"memory"); \
  }
DITHER_HOLD_SUMS(128)
DITHER_HOLD_SUMS(96)
DITHER_HOLD_SUMS(88)
DITHER_HOLD_SUMS(64)

#undef DITHER_HOLD_SUMS
#undef DITHER_MULTIPLY_REGISTERS
#undef DITHER_MULTIPLY
#undef DITHER_TEXT_128
#undef DITHER_SUMS_128
#undef DITHER_TEXT_96
#undef DITHER_SUMS_96
#undef DITHER_TEXT_88
#undef DITHER_SUMS_88
#undef DITHER_TEXT_64
#undef DITHER_SUMS_64

}  // namespace dither::cuda
