// The energy of class weights on the sphere: the mean of θ⁻² over all pairs, O(C² D) by the portable tier in f64.
#pragma once
#include "margin_softmax.cuh"

// The farthest from 0 that a cosine counts: crates/tensor/src/op/margin_softmax.rs says why.
constexpr double FARTHEST = 0.99999;

// Cosine of two class weights, by a warp: the same in every lane.
__device__ __forceinline__ double weights_cosine(const Head &head, const float *a, const float *b) {
    double product = 0, square_a = 0, square_b = 0;
    for (u32 d = threadIdx.x % WARP; d < head.dimension; d += WARP) {
        product += double(a[d]) * double(b[d]);
        square_a += double(a[d]) * double(a[d]);
        square_b += double(b[d]) * double(b[d]);
    }
    return warp_sum(product) / (floored(sqrt(warp_sum(square_a))) * floored(sqrt(warp_sum(square_b))));
}

// Σ_{j<i} θ_ij⁻² of each class i, energies [C]. A warp a class.
__device__ __forceinline__ void class_energies(const Head &head, const float *weight, double *energies) {
    u32 i = global_thread() / WARP;
    if (i >= head.classes) return;
    double sum = 0;
    for (u32 j = 0; j < i; ++j) {
        double c = weights_cosine(head, weight + u64(i) * head.dimension, weight + u64(j) * head.dimension);
        double theta = acos(c < -FARTHEST ? -FARTHEST : c > FARTHEST ? FARTHEST : c);
        sum += 1 / (theta * theta);
    }
    if (threadIdx.x % WARP == 0) energies[i] = sum;
}

// Adds the energy to the loss of the valid rows. By one warp.
__device__ __forceinline__ void add_energy(const Head &head, const double *energies, const u32 *count, float *loss) {
    double sum = 0, classes = head.classes;
    for (u32 i = threadIdx.x; i < head.classes; i += WARP) sum += energies[i];
    double energy = head.energy * warp_sum(sum) / (classes * (classes - 1) / 2);
    for (u32 row = threadIdx.x; row < min(count[0], head.batch); row += WARP) loss[row] += float(energy);
}

// Adds its gradient to d_weight [C, D]. A warp a class.
__device__ __forceinline__ void add_energy_gradient(const Head &head, const float *weight, float *d_weight) {
    u32 lane = threadIdx.x % WARP, i = global_thread() / WARP;
    if (i >= head.classes) return;
    const float *own = weight + u64(i) * head.dimension;
    float *d_w = d_weight + u64(i) * head.dimension;
    double classes = head.classes, share = head.energy * 4 / (classes * (classes - 1));
    double inverse = 1 / floored(sqrt(warp_square(own, head.dimension)));
    for (u32 j = 0; j < head.classes; ++j) {
        const float *other = weight + u64(j) * head.dimension;
        double c = weights_cosine(head, own, other);
        if (j == i || c < -FARTHEST || c > FARTHEST) continue;
        double theta = acos(c), slope = share / (theta * theta * theta * sqrt((1 - c) * (1 + c))) * inverse;
        double of_other = 1 / floored(sqrt(warp_square(other, head.dimension)));
        for (u32 d = lane; d < head.dimension; d += WARP)
            d_w[d] += float(slope * (other[d] * of_other - c * own[d] * inverse));
    }
}
