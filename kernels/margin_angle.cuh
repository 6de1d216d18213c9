// Angles of cosines, in half turns: cospi and sinpi need no stack for large arguments.
#pragma once

constexpr double PI = 3.14159265358979323846;

// Slopes are taken at angles at least this far, in radians, from 0 and π, where sin θ is 0: crates/models/src/margin/angle.rs
// says why.
constexpr double NEAREST_SIN = 9.9999983333334168e-4, NEAREST_COS = 0.99999950000004167;

// θ / π.
__device__ __forceinline__ double half_turns(double c) { return acos(c) / PI; }

// sin θ.
__device__ __forceinline__ double sine(double c) { return sqrt((1 - c) * (1 + c)); }

// cos θ and sin θ of the angle at which a slope is taken.
struct Sides {
    double cos, sin;
};

__device__ __forceinline__ Sides slope_sides(double c) {
    if (c > NEAREST_COS) return {NEAREST_COS, NEAREST_SIN};
    if (c < -NEAREST_COS) return {-NEAREST_COS, NEAREST_SIN};
    return {c, sine(c)};
}
