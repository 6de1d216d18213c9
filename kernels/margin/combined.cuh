// NormFace, CosFace, ArcFace and what lies between: h = cos(m₁θ + m₂) − m₃.
//
// Parameters: m₁, m₂, m₃, what takes its place past m₁θ + m₂ = π (Past), cos m₂, sin m₂, and the cosine at which that is
// past. Source: Deng et al., ArcFace, CVPR 2019, equation 4. Partner: crates/models/src/margin/combined.rs.
#pragma once
#include "margin_angle.cuh"

enum Past { PAST_SHIFTED = 0, PAST_CLAMPED = 1, PAST_NONE = 2, PAST_CONTINUED = 3 };

__device__ __forceinline__ Bent target(double c, double, const MarginParameters &parameters) {
    double m1 = parameters[0], m2 = parameters[1], m3 = parameters[2], begins = parameters[6];
    double cos_m2 = parameters[4], sin_m2 = parameters[5];
    int past = int(parameters[3]);
    if (c < begins && past != PAST_NONE) {
        if (past == PAST_CLAMPED) return {-1 - m3, 0.0};
        return {c - m3 - (past == PAST_SHIFTED ? m2 * sin_m2 : 1 + begins), 1.0};
    }
    if (m1 == 1 && m2 == 0) return {c - m3, 1.0};
    if (m1 == 1) {
        Sides at = slope_sides(c);
        return {c * cos_m2 - sine(c) * sin_m2 - m3, (at.sin * cos_m2 + at.cos * sin_m2) / at.sin};
    }
    Sides at = slope_sides(c);
    return {cospi(m1 * half_turns(c) + m2 / PI) - m3, m1 * sinpi(m1 * half_turns(at.cos) + m2 / PI) / at.sin};
}
