// cast: converts between f32 and bf16; to bf16 by rounding to nearest, ties to even.
//
// input  [elements] f32 or bf16   read
// out    [elements] the other     written
//
// Both 16-byte aligned. Grid: any; block: 256 threads; no shared memory. Each thread takes eight elements at a time.
// Floor: 6 · elements bytes.
// Partners: crates/tensor/src/op/cast.rs, crates/tensor/src/cpu/cast.rs, crates/cuda/src/launcher/cast.rs.
#include "common.cuh"

KERNELS_OVERLAP

constexpr u32 GROUP = 8;

template <class From, class To>
__device__ void cast(const From *__restrict__ input, To *__restrict__ out, u32 elements) {
    for (u32 group = global_thread(); group < (elements + GROUP - 1) / GROUP; group += global_threads()) {
        u32 first = group * GROUP;
        if (first + GROUP <= elements) {
            Pack<From, GROUP> from = load_pack<GROUP>(input + first);
            Pack<To, GROUP> to;
#pragma unroll
            for (u32 i = 0; i < GROUP; ++i) to.values[i] = from_float<To>(to_float(from.values[i]));
            store_pack(out + first, to);
        } else {
            for (u32 i = first; i < elements; ++i) out[i] = from_float<To>(to_float(input[i]));
        }
    }
}

extern "C" __global__ void __launch_bounds__(256)
cast_bf16(const float *input, bf16 *out, u32 elements) {
    await_previous();
    cast(input, out, elements);
}

extern "C" __global__ void __launch_bounds__(256)
cast_f32(const bf16 *input, float *out, u32 elements) {
    await_previous();
    cast(input, out, elements);
}
