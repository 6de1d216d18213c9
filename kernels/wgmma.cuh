// The products of warpgroups of sm_90a: wgmma with fp32 sums, of bf16 operands or of fp32 ones as TF32.
//
// A warpgroup is four warps, the first of them a multiple of four. sum += left · right, left [64, k] and right [k, N],
// where k is 32 bytes: 16 bf16 or 8 TF32. TF32 cuts fp32 operands to 10 mantissa bits; round_to_tf32 rounds those in
// registers.
//
// Right, and left where it is not in registers, lie in shared memory in lines of 128 bytes with the 128-byte swizzle,
// as a bulk copy of a box with an inner extent of 128 bytes brings them. Their first line begins at a multiple of 1,024.
//   K_MAJOR   a line is 128 bytes of the reduction for one row (left) or column (right). Any type.
//   MN_MAJOR  a line is 64 rows or columns at one place of the reduction. bf16 only.
//
// Where a sum is: thread t of the warpgroup, with w = t / 32, g = t % 32 / 4 and p = t % 4, holds in sum[4j + 2h + i]
// row 16w + g + 8h, column 8j + 2p + i. Left in registers: left[2q + h] holds row 16w + g + 8h at the 32 bits (two bf16
// or one TF32) number p + 4q of the k.
//
// Products are asynchronous: from begin_products to wait_for_products no register and no memory of an operand may be
// touched. All calls are made by all 128 threads, converged, with the same operands.
#pragma once
#include "bulk.cuh"
#include "mma.cuh"

enum Major { K_MAJOR, MN_MAJOR };

// Bytes of a line of an operand, and of the eight after which the swizzle repeats.
constexpr u32 LINE_BYTES = 128, LINES_BYTES = 1024;

// A matrix in shared memory, for a product to read. `lines` is the address of the first line. Of a MN_MAJOR matrix with
// more than 64 rows or columns the next 64 begin `block_bytes` further. step(i) is the matrix i times k further along
// the reduction.
template <Major MAJOR>
struct Matrix {
    // In units of 16 bytes, as the lower bits of a descriptor: 32 bytes of each line, or 16 lines.
    static constexpr u64 STEP = MAJOR == K_MAJOR ? 2 : 16 * LINE_BYTES / 16;

    u64 descriptor;

    // From bit 24 on an address has the block's rank in its cluster, which would fall into the field of block_bytes.
    __device__ __forceinline__ explicit Matrix(u32 lines, u32 block_bytes = 16)
        : descriptor(u64((lines & 0x3ffff) >> 4) | u64(block_bytes >> 4) << 16 | u64(LINES_BYTES >> 4) << 32 |
                     u64(1) << 62) {}
    __device__ __forceinline__ u64 step(u32 number) const { return descriptor + number * STEP; }
};

// Before the first product, and after registers of operands or sums were touched by other means.
__device__ __forceinline__ void begin_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }

// Ends a group of products.
__device__ __forceinline__ void commit_products() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

// Waits until at most the latest `PENDING` groups are under way.
template <int PENDING>
__device__ __forceinline__ void wait_for_products() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}

// Tells the compiler that registers change here: after a wait nothing that reads them may be moved before it.
template <u32 COUNT>
__device__ __forceinline__ void settle(float (&sum)[COUNT]) {
#pragma unroll
    for (u32 i = 0; i < COUNT; ++i) asm volatile("" : "+f"(sum[i])::"memory");
}

// The operands' numbers in an instruction, and the registers of N / 2 sums.
#define WGMMA_NAMES_64 \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15" \
    ", " "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define WGMMA_NAMES_128 \
    WGMMA_NAMES_64 \
    ", " "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47" \
    ", " "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define WGMMA_NAMES_192 \
    WGMMA_NAMES_128 \
    ", " "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79" \
    ", " "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define WGMMA_NAMES_256 \
    WGMMA_NAMES_192 \
    ", " "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111" \
    ", " "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
#define WGMMA_SUMS_8(I) \
    "+f"(sum[I]), "+f"(sum[I + 1]), "+f"(sum[I + 2]), "+f"(sum[I + 3]), \
    "+f"(sum[I + 4]), "+f"(sum[I + 5]), "+f"(sum[I + 6]), "+f"(sum[I + 7])
#define WGMMA_SUMS_32(I) WGMMA_SUMS_8(I), WGMMA_SUMS_8(I + 8), WGMMA_SUMS_8(I + 16), WGMMA_SUMS_8(I + 24)
#define WGMMA_SUMS_64 WGMMA_SUMS_32(0)
#define WGMMA_SUMS_128 WGMMA_SUMS_64, WGMMA_SUMS_32(32)
#define WGMMA_SUMS_192 WGMMA_SUMS_128, WGMMA_SUMS_32(64)
#define WGMMA_SUMS_256 WGMMA_SUMS_192, WGMMA_SUMS_32(96)

// The products of N columns; H is N / 2, and H1 to H6 are the numbers after it. `add`: whether to add to the sums,
// which need no value else.
#define WGMMA_OPEN(ADD, SHAPE) "{\n.reg .pred add;\nsetp.ne.b32 add, %" #ADD ", 0;\nwgmma.mma_async.sync.aligned." SHAPE
#define WGMMA(N, H, H1, H2, H3, H4, H5, H6)                                                                           \
    template <class T, Major LEFT, Major RIGHT>                                                                       \
    __device__ __forceinline__ void multiply_shared(float(&sum)[H], u64 left, u64 right, bool add) {                  \
        if constexpr (sizeof(T) == 2) {                                                                               \
            asm volatile(WGMMA_OPEN(H2, "m64n" #N "k16.f32.bf16.bf16")                                                \
                         "{" WGMMA_NAMES_##N "}, %" #H ", %" #H1 ", add, 1, 1, %" #H3 ", %" #H4 ";\n}"                \
                         : WGMMA_SUMS_##N                                                                             \
                         : "l"(left), "l"(right), "r"(u32(add)), "n"(int(LEFT)), "n"(int(RIGHT)));                    \
        } else {                                                                                                      \
            static_assert(LEFT == K_MAJOR && RIGHT == K_MAJOR, "TF32 is K-major");                                    \
            asm volatile(WGMMA_OPEN(H2, "m64n" #N "k8.f32.tf32.tf32")                                                 \
                         "{" WGMMA_NAMES_##N "}, %" #H ", %" #H1 ", add, 1, 1;\n}"                                    \
                         : WGMMA_SUMS_##N                                                                             \
                         : "l"(left), "l"(right), "r"(u32(add)));                                                     \
        }                                                                                                             \
    }                                                                                                                 \
    template <class T, Major RIGHT>                                                                                   \
    __device__ __forceinline__ void multiply_registers(float(&sum)[H], const u32(&left)[4], u64 right, bool add) {    \
        if constexpr (sizeof(T) == 2) {                                                                               \
            asm volatile(WGMMA_OPEN(H5, "m64n" #N "k16.f32.bf16.bf16")                                                \
                         "{" WGMMA_NAMES_##N "}, {%" #H ", %" #H1 ", %" #H2 ", %" #H3 "}, %" #H4                      \
                         ", add, 1, 1, %" #H6 ";\n}"                                                                  \
                         : WGMMA_SUMS_##N                                                                             \
                         : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "l"(right), "r"(u32(add)),         \
                           "n"(int(RIGHT)));                                                                          \
        } else {                                                                                                      \
            static_assert(RIGHT == K_MAJOR, "TF32 is K-major");                                                       \
            asm volatile(WGMMA_OPEN(H5, "m64n" #N "k8.f32.tf32.tf32")                                                 \
                         "{" WGMMA_NAMES_##N "}, {%" #H ", %" #H1 ", %" #H2 ", %" #H3 "}, %" #H4 ", add, 1, 1;\n}"    \
                         : WGMMA_SUMS_##N                                                                             \
                         : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "l"(right), "r"(u32(add)));        \
        }                                                                                                             \
    }

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
WGMMA(64, 32, 33, 34, 35, 36, 37, 38)
WGMMA(128, 64, 65, 66, 67, 68, 69, 70)
WGMMA(192, 96, 97, 98, 99, 100, 101, 102)
WGMMA(256, 128, 129, 130, 131, 132, 133, 134)
#endif
