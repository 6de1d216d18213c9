// gradient_norm: norm = √Σ g², over all gradients together.
//
// gradients  [length] f32            read, 16-byte aligned
// norm       [1] f32                 written
// sums       [⌈length / 4096⌉] f32   workspace: sums of squares
//
// Chunks of 4,096 squares are summed in fp32, the chunks in fp64; both in a fixed order.
// gradient_norm_chunks: a block of 256 threads a chunk. gradient_norm: one block of 256 threads.
// Floor: 4 · length bytes.
// Partners: crates/tensor/src/op/gradient_norm.rs, crates/tensor/src/cpu/gradient_norm.rs, crates/cuda/src/launcher/gradient_norm.rs.
#include "common.cuh"

KERNELS_OVERLAP

constexpr u32 THREADS = 256;
constexpr u32 CHUNK = 4096;

extern "C" __global__ void __launch_bounds__(THREADS)
gradient_norm_chunks(const float *gradients, float *sums, u32 length) {
    await_previous();
    u32 begin = blockIdx.x * CHUNK, end = min(begin + CHUNK, length);
    float sum = 0;
#pragma unroll
    for (u32 first = begin + threadIdx.x * 4; first < begin + CHUNK; first += THREADS * 4) {
        if (first + 4 <= end) {
            Pack<float, 4> g = load_pack<4>(gradients + first);
#pragma unroll
            for (u32 i = 0; i < 4; ++i) sum += g.values[i] * g.values[i];
        } else {
            for (u32 i = first; i < end; ++i) sum += gradients[i] * gradients[i];
        }
    }
    sum = block_sum<THREADS>(sum);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

extern "C" __global__ void __launch_bounds__(THREADS)
gradient_norm(const float *sums, float *norm, u32 chunks) {
    await_previous();
    double sum = 0;
    for (u32 chunk = threadIdx.x; chunk < chunks; chunk += THREADS) sum += double(sums[chunk]);
    sum = block_sum<THREADS>(sum);
    if (threadIdx.x == 0) norm[0] = float(sqrt(sum));
}
