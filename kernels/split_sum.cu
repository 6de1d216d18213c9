// split_sum: out = epilogue(Σ partial[part]), the end of a product whose reduction was split, in the order of the parts.
//
// partial     [parts, rows, columns] float   read
// bias, slope [columns] float                read, or null
// residual    [rows, columns] T              read, or null
// kept        [rows, columns] T              written before PReLU, or null
// out         [rows, columns] T              written
//
// T is float or bf16; sums are fp32. Columns are a multiple of 16 bytes of T, pointers 16-byte aligned.
// Grid: any; block: 256 threads; no shared memory.
// Floor: parts · rows · columns · 4 bytes read, rows · columns · sizeof(T) bytes written.
// Partners: gemm_mma.cuh, conv2d_mma.cuh, crates/cuda/src/launcher/mma.rs.
#include "epilogue.cuh"

template <class T>
__device__ __forceinline__ void split_sum(const float *__restrict__ partial, Epilogue<T> epilogue, u32 rows, u32 columns, u32 parts) {
    constexpr u32 LENGTH = Vector<T>::LENGTH;
    u32 vectors = columns / LENGTH;
    for (u32 index = global_thread(); index < rows * vectors; index += global_threads()) {
        u32 row = index / vectors, column = index % vectors * LENGTH;
        float sums[LENGTH] = {};
        for (u32 part = 0; part < parts; ++part) {
            const float *from = partial + (size_t(part) * rows + row) * columns + column;
#pragma unroll
            for (u32 i = 0; i < LENGTH; i += 4) {
                float4 four = *reinterpret_cast<const float4 *>(from + i);
                sums[i] += four.x, sums[i + 1] += four.y, sums[i + 2] += four.z, sums[i + 3] += four.w;
            }
        }
        epilogue.store(row, column, columns, sums);
    }
}

extern "C" __global__ void __launch_bounds__(256)
split_sum_f32(const float *partial, const float *bias, const float *slope, const float *residual, float *kept, float *out,
              u32 rows, u32 columns, u32 parts) {
    split_sum<float>(partial, {bias, slope, residual, kept, out}, rows, columns, parts);
}

extern "C" __global__ void __launch_bounds__(256)
split_sum_bf16(const float *partial, const float *bias, const float *slope, const bf16 *residual, bf16 *kept, bf16 *out,
               u32 rows, u32 columns, u32 parts) {
    split_sum<bf16>(partial, {bias, slope, residual, kept, out}, rows, columns, parts);
}
