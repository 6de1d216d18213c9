// SphereFace2 and UniFace: g(c) − m₁ of the target, g(c) + m₂ of the others, with g(c) = 2 ((c + 1) / 2)^t − 1.
//
// Parameters: t, m₁, m₂. Source: Wen et al., SphereFace2, ICLR 2022, section 3.2. Partner:
// crates/models/src/margin/sphereface2.rs.
#pragma once
#define MARGIN_BENDS_OTHERS

__device__ __forceinline__ Bent target(double c, double, const MarginParameters &parameters) {
    double t = parameters[0], half = fmax((c + 1) / 2, 1e-12), power = exp((t - 1) * log(half));
    return {2 * half * power - 1 - parameters[1], t * power};
}

__device__ __forceinline__ BentOther other(float c, const MarginParameters &parameters) {
    float t = float(parameters[0]), half = fmaxf((c + 1) / 2, 1e-12f);
    // Within half a step of an f32 near 1, as a power of numbers up to 1 needs no more; powf is three times as long.
    float power = exp2f((t - 1) * log2f(half));
    return {2 * half * power - 1 + float(parameters[2]), t * power};
}
