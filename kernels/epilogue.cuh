// What happens to a sum of products before it is stored: bias, PReLU, residual.
#pragma once
#include "common.cuh"

// 16 bytes of elements.
template <class T>
struct alignas(16) Vector {
    static constexpr u32 LENGTH = 16 / sizeof(T);
    T values[LENGTH];
};

// out = residual + prelu(sum + bias), where a null pointer leaves its part out. All in fp32, rounded when stored.
template <class T>
struct Epilogue {
    const float *bias;   // [columns], or null
    const float *slope;  // [columns], or null
    const T *residual;   // [rows, columns], or null
    T *kept;             // [rows, columns]: sum + bias, for the backward pass; or null
    T *out;              // [rows, columns]

    // Stores 16 bytes of row `row` from `column` on. `columns` is a multiple of their number.
    __device__ __forceinline__ void store(u32 row, u32 column, u32 columns, float (&sums)[Vector<T>::LENGTH]) const {
        constexpr u32 LENGTH = Vector<T>::LENGTH;
        size_t at = size_t(row) * columns + column;
        if (bias) {
#pragma unroll
            for (u32 i = 0; i < LENGTH; ++i) sums[i] += bias[column + i];
        }
        if (kept) write(kept + at, sums);
        if (slope) {
            // A NaN is not above zero, and the slope keeps it.
#pragma unroll
            for (u32 i = 0; i < LENGTH; ++i) sums[i] = sums[i] > 0 ? sums[i] : sums[i] * slope[column + i];
        }
        if (residual) {
            Vector<T> other = *reinterpret_cast<const Vector<T> *>(residual + at);
#pragma unroll
            for (u32 i = 0; i < LENGTH; ++i) sums[i] += to_float(other.values[i]);
        }
        write(out + at, sums);
    }

    __device__ __forceinline__ static void write(T *to, const float (&sums)[Vector<T>::LENGTH]) {
        Vector<T> rounded;
#pragma unroll
        for (u32 i = 0; i < Vector<T>::LENGTH; ++i) rounded.values[i] = from_float<T>(sums[i]);
        *reinterpret_cast<Vector<T> *>(to) = rounded;
    }
};
