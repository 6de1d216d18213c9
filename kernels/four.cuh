// Four neighbouring values of a row, in fp32, whatever they are in memory.
#pragma once
#include "common.cuh"

using Four = Pack<float, 4>;

// Four neighbouring values, those from `valid` on zeros that are not read. `vectors`: the address is aligned to four
// values, and `valid` is none or at least four.
__device__ __forceinline__ Four read_four(const float *from, int valid, bool vectors) {
    Four value = {};
    if (vectors) return valid > 0 ? load_pack<4>(from) : value;
#pragma unroll
    for (int i = 0; i < 4; ++i)
        if (i < valid) value.values[i] = from[i];
    return value;
}

// The same as they are in memory: of bf16 half of the registers.
__device__ __forceinline__ Four stored_four(const float *from, int valid, bool vectors) {
    return read_four(from, valid, vectors);
}

__device__ __forceinline__ uint2 stored_four(const bf16 *from, int valid, bool vectors) {
    if (vectors) return valid > 0 ? *reinterpret_cast<const uint2 *>(from) : uint2{};
    u32 bits[4] = {};
#pragma unroll
    for (int i = 0; i < 4; ++i)
        if (i < valid) bits[i] = from[i].bits;
    return {bits[0] | bits[1] << 16, bits[2] | bits[3] << 16};
}

__device__ __forceinline__ Four widened(const Four &four) { return four; }

__device__ __forceinline__ Four widened(uint2 bits) {
    return {__uint_as_float(bits.x << 16), __uint_as_float(bits.x & 0xffff0000u), __uint_as_float(bits.y << 16),
            __uint_as_float(bits.y & 0xffff0000u)};
}

__device__ __forceinline__ Four read_four(const bf16 *from, int valid, bool vectors) {
    Four value = {};
    if (vectors) {
        if (valid <= 0) return value;
        return widened(*reinterpret_cast<const uint2 *>(from));
    }
#pragma unroll
    for (int i = 0; i < 4; ++i)
        if (i < valid) value.values[i] = to_float(from[i]);
    return value;
}

template <class T>
using StoredFour = decltype(stored_four(static_cast<const T *>(nullptr), 0, false));

__device__ __forceinline__ void write_vector(float *to, const Four &value) { store_pack(to, value); }

__device__ __forceinline__ void write_vector(bf16 *to, const Four &value) {
    const float *values = value.values;
    *reinterpret_cast<uint2 *>(to) = {pack_bf16(values[0], values[1]), pack_bf16(values[2], values[3])};
}

template <class T>
__device__ __forceinline__ void write_four(T *to, const Four &value, int valid, bool vectors) {
    if (vectors) {
        write_vector(to, value);
        return;
    }
#pragma unroll
    for (int i = 0; i < 4; ++i)
        if (i < valid) to[i] = from_float<T>(value.values[i]);
}
