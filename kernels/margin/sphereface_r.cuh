// SphereFace-R: cos mθ for any real m, past its first fall continued (v0) or held at −1 (v1).
//
// Parameters: m, version. Source: Liu et al., SphereFace Revived, TPAMI 2023. Partner:
// crates/models/src/margin/sphereface_r.rs.
#pragma once
#include "margin_angle.cuh"

__device__ __forceinline__ Bent target(double c, double, const MarginParameters &parameters) {
    double m = parameters[0], turns = m * half_turns(c);
    if (parameters[1] == 1 && turns >= 1) return {-1.0, 0.0};
    Sides at = slope_sides(c);
    double k = floor(turns), k_slope = floor(m * half_turns(at.cos));
    double sign = k - 2 * floor(k / 2) == 0 ? 1 : -1, sign_slope = k_slope - 2 * floor(k_slope / 2) == 0 ? 1 : -1;
    return {sign * cospi(turns) - 2 * k, sign_slope * m * sinpi(m * half_turns(at.cos)) / at.sin};
}
