// optimizer: updates all parameters in one launch.
//
//   g = clip factor · gradient;  rate = rates[min(counter, steps − 1)] · the group's multiple
//   SGD:   g += decay · p;  v = μ v + g;  p −= rate · (v, or with Nesterov g + μ v)
//   Adam:  m = β₁ m + (1 − β₁) g;  s = β₂ s + (1 − β₂) g²;  p −= rate · m̂ / (√ŝ + ε); decay into g, or decoupled (AdamW)
//
// Source: Kingma and Ba, ICLR 2015, algorithm 1; Loshchilov and Hutter, ICLR 2019, algorithm 2.
//
// gradients      [length] f32   read
// gradient_norm  [1] f32        read
// rates          [steps] f32    read
// counter        [1] u32        read
// parameters     [length] f32   updated
// momentum or first_moment, second_moment  [length] f32  updated
// copy           [copied] bf16  updated, or absent (null): the parameters from `first` on
// tiles          [tiles] Tile   read: up to 1,024 neighbouring elements of one group each
//
// Blocks of 16-byte aligned tiles move 16 bytes at a time. Grid: a block of 256 threads a tile; no shared memory but 8 bytes.
// Floor: SGD 20, Adam 28 · length bytes; 2 more of each element that is copied.
// Partners: crates/tensor/src/op/optimizer.rs, crates/tensor/src/cpu/optimizer.rs, crates/cuda/src/launcher/optimizer.rs.
#include "common.cuh"

KERNELS_OVERLAP

constexpr u32 TILE = 1024;
constexpr u32 THREADS = TILE / 4;

struct Tile {
    u32 start, length;
    float decay, rate;
};

struct Sgd {
    float momentum;
    u32 nesterov;  // 0 or 1
};

struct Adam {
    float beta1, beta2, epsilon;
    u32 decoupled;  // 0 or 1
};

// What gradients are multiplied with: scaled down to the norm `clip`, if theirs is larger. 0: never.
__device__ __forceinline__ float clip_factor(const float *norm, float clip) {
    return clip > 0 && norm[0] > clip ? float(double(clip) / double(norm[0])) : 1.0f;
}

__device__ __forceinline__ float rate_at(const float *rates, const u32 *counter, u32 steps) {
    return rates[min(counter[0], steps - 1)];
}

// Where a copy of parameters in bf16 lies, and which of them it has.
struct Copy {
    u32 first, length;
};

// Writes the copy of LENGTH neighbours from i on, of those that have one.
template <u32 LENGTH>
__device__ __forceinline__ void write_copy(bf16 *copy, const Copy &copied, u32 i, const float *values) {
    u32 at = i - copied.first;  // before the first it wraps around
    if (LENGTH == 4 && at % 4 == 0 && at < copied.length && copied.length - at >= 4) {
        *reinterpret_cast<uint2 *>(copy + at) = {pack_bf16(values[0], values[1 % LENGTH]),
                                                 pack_bf16(values[2 % LENGTH], values[3 % LENGTH])};
        return;
    }
#pragma unroll
    for (u32 k = 0; k < LENGTH; ++k)
        if (at + k < copied.length) copy[at + k] = from_float<bf16>(values[k]);
}

// Calls `update(i, LENGTH)` for groups of four neighbours where alignment allows, else one by one.
template <class Update4, class Update1>
__device__ __forceinline__ void for_tile(const Tile &tile, Update4 update4, Update1 update1) {
    if (tile.start % 4 == 0) {
        u32 first = threadIdx.x * 4;
        if (first + 4 <= tile.length) update4(tile.start + first);
        else
            for (u32 i = first; i < tile.length; ++i) update1(tile.start + i);
    } else {
        for (u32 i = threadIdx.x; i < tile.length; i += THREADS) update1(tile.start + i);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS)
optimizer_sgd(const float *gradients, const float *gradient_norm, const float *rates, const u32 *counter,
              float *parameters, float *velocity, bf16 *copy, const Tile *tiles, u32 steps, float clip, Copy copied,
              Sgd rule) {
    await_previous();
    Tile tile = tiles[blockIdx.x];
    float factor = clip_factor(gradient_norm, clip), rate = rate_at(rates, counter, steps) * tile.rate;
    auto update = [&](float &p, float g, float &v) {
        g = g * factor + tile.decay * p;
        v = rule.momentum * v + g;
        p -= rate * (rule.nesterov ? g + rule.momentum * v : v);
    };
    for_tile(
        tile,
        [&](u32 i) {
            Pack<float, 4> p = load_pack<4>(parameters + i), g = load_pack<4>(gradients + i), v = load_pack<4>(velocity + i);
#pragma unroll
            for (u32 k = 0; k < 4; ++k) update(p.values[k], g.values[k], v.values[k]);
            store_pack(parameters + i, p);
            write_copy<4>(copy, copied, i, p.values);
            store_pack(velocity + i, v);
        },
        [&](u32 i) {
            update(parameters[i], gradients[i], velocity[i]);
            write_copy<1>(copy, copied, i, parameters + i);
        });
}

// 1 / (1 − βⁿ), by repeated squaring in fp64.
__device__ __forceinline__ float bias_correction(float beta, u32 n) {
    double power = 1, square = beta;
    for (; n > 0; n /= 2, square *= square)
        if (n % 2 == 1) power *= square;
    return float(1 / (1 - power));
}

extern "C" __global__ void __launch_bounds__(THREADS)
optimizer_adam(const float *gradients, const float *gradient_norm, const float *rates, const u32 *counter,
               float *parameters, float *first_moment, float *second_moment, bf16 *copy, const Tile *tiles, u32 steps,
               float clip, Copy copied, Adam rule) {
    __shared__ float corrections[2];
    await_previous();
    if (threadIdx.x < 2) corrections[threadIdx.x] = bias_correction(threadIdx.x == 0 ? rule.beta1 : rule.beta2, counter[0] + 1);
    __syncthreads();
    Tile tile = tiles[blockIdx.x];
    float factor = clip_factor(gradient_norm, clip), rate = rate_at(rates, counter, steps) * tile.rate;
    float correct1 = corrections[0], correct2 = corrections[1];
    float shrink = rule.decoupled ? 1 - rate * tile.decay : 1, inner = rule.decoupled ? 0 : tile.decay;
    auto update = [&](float &p, float g, float &m, float &s) {
        g = g * factor + inner * p;
        m = rule.beta1 * m + (1 - rule.beta1) * g;
        s = rule.beta2 * s + (1 - rule.beta2) * g * g;
        p = shrink * p - rate * (m * correct1) / (sqrtf(s * correct2) + rule.epsilon);
    };
    for_tile(
        tile,
        [&](u32 i) {
            Pack<float, 4> p = load_pack<4>(parameters + i), g = load_pack<4>(gradients + i);
            Pack<float, 4> m = load_pack<4>(first_moment + i), s = load_pack<4>(second_moment + i);
#pragma unroll
            for (u32 k = 0; k < 4; ++k) update(p.values[k], g.values[k], m.values[k], s.values[k]);
            store_pack(parameters + i, p);
            write_copy<4>(copy, copied, i, p.values);
            store_pack(first_moment + i, m);
            store_pack(second_moment + i, s);
        },
        [&](u32 i) {
            update(parameters[i], gradients[i], first_moment[i], second_moment[i]);
            write_copy<1>(copy, copied, i, parameters + i);
        });
}
