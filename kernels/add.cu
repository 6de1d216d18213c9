// add: out = left + right, the residual connection.
//
// left, right  [elements] T      read
// out          [elements] T      written
//
// T is float or bf16; sums are fp32. All pointers are 16-byte aligned and disjoint.
// Grid: any; block: 256 threads; no shared memory. Each thread takes every global_threads()-th group of 16 bytes.
// Floor: 3 · elements · sizeof(T) bytes; one addition an element is nothing beside them.
// Partners: crates/tensor/src/op/add.rs, crates/tensor/src/cpu/add.rs, crates/cuda/src/launcher/add.rs.
#include "common.cuh"

KERNELS_OVERLAP

template <class T>
__device__ void add(const T *__restrict__ left, const T *__restrict__ right, T *__restrict__ out, u32 elements) {
    constexpr u32 LENGTH = LANES<T>;
    u32 packs = elements / LENGTH;
    for (u32 pack = global_thread(); pack < packs; pack += global_threads()) {
        Pack<T, LENGTH> a = load_pack<LENGTH>(left + pack * LENGTH);
        Pack<T, LENGTH> b = load_pack<LENGTH>(right + pack * LENGTH);
#pragma unroll
        for (u32 i = 0; i < LENGTH; ++i) a.values[i] = from_float<T>(to_float(a.values[i]) + to_float(b.values[i]));
        store_pack(out + pack * LENGTH, a);
    }
    u32 rest = packs * LENGTH + global_thread();
    if (rest < elements) out[rest] = from_float<T>(to_float(left[rest]) + to_float(right[rest]));
}

extern "C" __global__ void __launch_bounds__(256)
add_f32(const float *left, const float *right, float *out, u32 elements) {
    await_previous();
    add(left, right, out, elements);
}

extern "C" __global__ void __launch_bounds__(256)
add_bf16(const bf16 *left, const bf16 *right, bf16 *out, u32 elements) {
    await_previous();
    add(left, right, out, elements);
}
