// What every kernel may use: fixed-size integers, bf16 by its bits, reductions. No NVIDIA header is included.
#pragma once

using u8 = unsigned char;
using u16 = unsigned short;
using u32 = unsigned int;
using u64 = unsigned long long;

constexpr int WARP = 32;

// Launches that overlap, from compute capability 9.0 on (programmatic dependent launch). A file that says KERNELS_OVERLAP
// has only kernels that call await_previous before they touch global memory: the driver starts them early. It lets the next
// launch of the stream begin, and waits until the one before has ended and all it wrote can be seen; what a launch before
// that one wrote can be seen, too, as each has waited for the one before it. No such kernel may have loads of the kind
// ld.global.nc, which the assembler moves before the wait: of files where the compiler makes some, kernels do not overlap.
#define KERNELS_OVERLAP extern "C" __constant__ u32 kernels_overlap = 1;
__device__ __forceinline__ void await_previous() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;\ngriddepcontrol.wait;" ::: "memory");
#endif
}

// bf16: the upper half of a float. Storage only; all arithmetic is in fp32.
struct bf16 {
    u16 bits;
};

__device__ __forceinline__ float to_float(float value) { return value; }
__device__ __forceinline__ float to_float(bf16 value) { return __uint_as_float(u32(value.bits) << 16); }

// Two values in bf16, rounded to nearest, ties to even, the first in the lower half; NaN stays NaN.
__device__ __forceinline__ u32 pack_bf16(float low, float high) {
#if __CUDA_ARCH__ >= 800
    u32 packed;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
    return packed;
#else
    auto rounded = [](float value) {
        u32 bits = __float_as_uint(value);
        return (bits & 0x7fffffffu) > 0x7f800000u ? bits >> 16 | 0x40u : (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
    };
    return rounded(low) | rounded(high) << 16;
#endif
}

// Rounds as pack_bf16.
template <class T>
__device__ __forceinline__ T from_float(float value);

template <>
__device__ __forceinline__ float from_float<float>(float value) { return value; }

template <>
__device__ __forceinline__ bf16 from_float<bf16>(float value) { return {u16(pack_bf16(value, 0))}; }

// Neighbouring elements that are loaded and stored together, in accesses of 16 bytes; the address is a multiple of 16.
template <class T, u32 LENGTH>
struct alignas(16) Pack {
    static_assert(LENGTH * sizeof(T) % 16 == 0, "whole accesses of 16 bytes");
    T values[LENGTH];
};

template <u32 LENGTH, class T>
__device__ __forceinline__ Pack<T, LENGTH> load_pack(const T *from) {
    return *reinterpret_cast<const Pack<T, LENGTH> *>(from);
}

template <class T, u32 LENGTH>
__device__ __forceinline__ void store_pack(T *to, const Pack<T, LENGTH> &pack) {
    *reinterpret_cast<Pack<T, LENGTH> *>(to) = pack;
}

// Elements of T in 16 bytes.
template <class T>
constexpr u32 LANES = 16 / sizeof(T);

// The address of something in shared memory, as the instructions take it that PTX has for it.
__device__ __forceinline__ u32 shared_address(const void *pointer) { return u32(__cvta_generic_to_shared(pointer)); }

// Index of this thread among all threads of a one-dimensional grid, and their number.
__device__ __forceinline__ u32 global_thread() { return blockIdx.x * blockDim.x + threadIdx.x; }
__device__ __forceinline__ u32 global_threads() { return gridDim.x * blockDim.x; }

// Sum over a warp: the same bits in every lane.
template <class T>
__device__ __forceinline__ T warp_sum(T value) {
#pragma unroll
    for (int offset = WARP / 2; offset > 0; offset /= 2) value += __shfl_xor_sync(0xffffffffu, value, offset);
    return value;
}

template <class T>
__device__ __forceinline__ T warp_max(T value) {
#pragma unroll
    for (int offset = WARP / 2; offset > 0; offset /= 2) {
        T other = __shfl_xor_sync(0xffffffffu, value, offset);
        value = other > value ? other : value;
    }
    return value;
}

// Sum over a block of `THREADS` threads, in a fixed order: valid in every thread.
template <int THREADS, class T>
__device__ __forceinline__ T block_sum(T value) {
    static_assert(THREADS % WARP == 0 && THREADS <= 1024, "whole warps");
    __shared__ T partial[THREADS / WARP];
    value = warp_sum(value);
    if (threadIdx.x % WARP == 0) partial[threadIdx.x / WARP] = value;
    __syncthreads();
    T sum = 0;
#pragma unroll
    for (int warp = 0; warp < THREADS / WARP; ++warp) sum += partial[warp];
    __syncthreads();
    return sum;
}
