// A-Softmax: h(c) = (λ c + ψ(c)) / (1 + λ) with ψ(c) = (−1)^k T_m(c) − 2k, where T_m is the Chebyshev polynomial with
// T_m(cos θ) = cos mθ and k counts the thresholds cos(iπ/m), 0 < i < m, that are at least c.
//
// Parameters: m, one of 1, 2, 3, 4. Source: Liu et al., CVPR 2017, section 3.2, equation 7; λ as in the authors' code.
// Partner: crates/models/src/margin/sphereface.rs.
#pragma once

__device__ __forceinline__ Bent target(double c, double lambda, const MarginParameters &parameters) {
    constexpr double COS_45 = 0.70710678118654752440;
    int m = int(parameters[0]), k = 0;
    double chebyshev = c, derivative = 1;
    if (m == 2) {
        chebyshev = 2 * c * c - 1;
        derivative = 4 * c;
        k = c <= 0;
    } else if (m == 3) {
        chebyshev = (4 * c * c - 3) * c;
        derivative = 12 * c * c - 3;
        k = (c <= 0.5) + (c <= -0.5);
    } else if (m == 4) {
        chebyshev = 8 * c * c * (c * c - 1) + 1;
        derivative = (32 * c * c - 16) * c;
        k = (c <= COS_45) + (c <= 0) + (c <= -COS_45);
    }
    double sign = k % 2 == 0 ? 1 : -1;
    return {(lambda * c + (sign * chebyshev - 2 * k)) / (1 + lambda), (lambda + sign * derivative) / (1 + lambda)};
}
