// SphereFace2: g(c) − m of the target, g(c) + m of the others, with g(c) = 2 ((c + 1) / 2)^t − 1.
//
// Parameters: t, m. Source: Wen et al., SphereFace2, ICLR 2022, section 3.2. Partner:
// crates/models/src/margin/sphereface2.rs.
#pragma once
#define MARGIN_BENDS_OTHERS

__device__ __forceinline__ Bent target(double c, double, const MarginParameters &parameters) {
    double t = parameters[0], half = fmax((c + 1) / 2, 1e-12), power = exp((t - 1) * log(half));
    return {2 * half * power - 1 - parameters[1], t * power};
}

__device__ __forceinline__ BentOther other(float c, const MarginParameters &parameters) {
    float t = float(parameters[0]), half = fmaxf((c + 1) / 2, 1e-12f), power = powf(half, t - 1);
    return {2 * half * power - 1 + float(parameters[1]), t * power};
}
