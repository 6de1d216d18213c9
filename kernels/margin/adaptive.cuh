// AdaFace, ElasticFace: h = cos(θ + g) − a, where g = m₂ + n₂ u and a = m₃ + n₃ u follow from the row's number u. Where
// θ + g is beyond 0 or π it is taken for that.
//
// Parameters: m₂, n₂, m₃, n₃. Source: Kim et al., AdaFace, CVPR 2022, section 3.3; Boutros et al., ElasticFace, CVPRW
// 2022, section 3. Partner: crates/models/src/margin/adaptive.rs.
#pragma once
#include "margin_angle.cuh"

__device__ __forceinline__ Bent target(double c, double u, const MarginParameters &parameters) {
    double g = parameters[0] + parameters[1] * u, a = parameters[2] + parameters[3] * u;
    if (g == 0) return {c - a, 1.0};
    double turn_cos = cospi(g / PI), turn_sin = sinpi(g / PI);
    if (g > 0 ? c < -turn_cos : c > turn_cos) return {(g > 0 ? -1 : 1) - a, 0.0};
    Sides at = slope_sides(c);
    return {c * turn_cos - sine(c) * turn_sin - a, (at.sin * turn_cos + at.cos * turn_sin) / at.sin};
}
