// SphereFace-R v2: the others' angles count 1/m times, the target's once.
//
// Parameters: m. Source: Liu et al., SphereFace Revived, TPAMI 2023. Partner:
// crates/models/src/margin/sphereface_r_others.rs.
#pragma once
#define MARGIN_BENDS_OTHERS

__device__ __forceinline__ Bent target(double c, double, const MarginParameters &) { return {c, 1.0}; }

__device__ __forceinline__ BentOther other(float c, const MarginParameters &parameters) {
    // As near to ±1 as f32 can tell the angle: crates/models/src/margin/sphereface_r_others.rs has the same.
    constexpr float LARGEST = 0.99998f;
    float m = float(parameters[0]), inside = fminf(fmaxf(c, -LARGEST), LARGEST);
    float turns = acosf(inside) * 0.318309886f / m;
    return {cospif(turns), sinpif(turns) / (m * sqrtf((1 - inside) * (1 + inside)))};
}
