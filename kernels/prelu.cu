// prelu: out = x where x > 0, else slope[c] · x, and its gradients from the stored x (slopes may become negative).
//
//   d_x = d_out where x > 0, else slope[c] · d_out;  d_slope[c] = Σ d_out · x over pixels and images with x ≤ 0
//
// Source: He et al., ICCV 2015, equations 1 and 8.
//
// x, out, d_out, d_x  [rows, channels] T    rows = H·W·N; x, d_out read; out, d_x written; 16-byte aligned
// slope               [channels] f32        read
// sums                [chunks, channels] f32 written: d_slope in parts, which part_sum adds up
//
// T is float or bf16; sums are fp32, in two levels. NaN goes the way of x ≤ 0: it stays.
// prelu_forward: any grid, 256 threads. prelu_backward: see column_sum.cuh. No shared memory but its 1 KB.
// Floor: forward 2, backward 3 · rows · channels · sizeof(T) bytes.
// Partners: crates/tensor/src/op/prelu.rs, crates/tensor/src/cpu/prelu.rs, crates/cuda/src/launcher/prelu.rs.
#include "column_sum.cuh"

KERNELS_OVERLAP

__device__ __forceinline__ float rectify(float x, float value, float slope) { return x > 0 ? value : slope * value; }

template <class T>
__device__ void forward(const T *__restrict__ x, const float *__restrict__ slope, T *__restrict__ out, u32 rows,
                        u32 channels) {
    constexpr u32 LENGTH = LANES<T>;
    u32 elements = rows * channels;
    if (channels % LENGTH == 0) {
        for (u32 first = global_thread() * LENGTH; first < elements; first += global_threads() * LENGTH) {
            Pack<T, LENGTH> pack = load_pack<LENGTH>(x + first);
            u32 channel = first % channels;
#pragma unroll
            for (u32 i = 0; i < LENGTH; ++i) {
                float value = to_float(pack.values[i]);
                pack.values[i] = from_float<T>(rectify(value, value, slope[channel + i]));
            }
            store_pack(out + first, pack);
        }
    } else {
        for (u32 i = global_thread(); i < elements; i += global_threads()) {
            float value = to_float(x[i]);
            out[i] = from_float<T>(rectify(value, value, slope[i % channels]));
        }
    }
}

template <class T>
__device__ void backward(const T *__restrict__ d_out, const T *__restrict__ x, const float *__restrict__ slope,
                         T *__restrict__ d_x, float *__restrict__ sums, u32 rows, u32 channels, u32 rows_per_chunk) {
    column_sum_chunk(rows, channels, rows_per_chunk, sums, [&](u32 row, u32 channel) {
        u32 at = row * channels + channel;
        float d = to_float(d_out[at]), value = to_float(x[at]);
        d_x[at] = from_float<T>(rectify(value, d, slope[channel]));
        return value > 0 ? 0.0f : d * value;
    });
}

extern "C" __global__ void __launch_bounds__(256)
prelu_forward_f32(const float *x, const float *slope, float *out, u32 rows, u32 channels) {
    await_previous();
    forward(x, slope, out, rows, channels);
}

extern "C" __global__ void __launch_bounds__(256)
prelu_forward_bf16(const bf16 *x, const float *slope, bf16 *out, u32 rows, u32 channels) {
    await_previous();
    forward(x, slope, out, rows, channels);
}

extern "C" __global__ void __launch_bounds__(256)
prelu_backward_f32(const float *d_out, const float *x, const float *slope, float *d_x, float *sums, u32 rows,
                   u32 channels, u32 rows_per_chunk) {
    await_previous();
    backward(d_out, x, slope, d_x, sums, rows, channels, rows_per_chunk);
}

extern "C" __global__ void __launch_bounds__(256)
prelu_backward_bf16(const bf16 *d_out, const bf16 *x, const float *slope, bf16 *d_x, float *sums, u32 rows,
                    u32 channels, u32 rows_per_chunk) {
    await_previous();
    backward(d_out, x, slope, d_x, sums, rows, channels, rows_per_chunk);
}
