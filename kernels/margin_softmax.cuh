// What the passes of the head share: its sizes, the target's entry of a row, the running softmax.
#pragma once
#include "common.cuh"

// Value and slope of the target's logit as a function of its cosine, before the scale.
struct TargetLogit {
    double value;  // h(cos θ)
    double slope;  // h′(cos θ), with respect to the cosine
};

// The numbers that Margin::parameters returns, in its order.
using MarginParameters = double[4];

// Defines the margin that this unit is compiled for:
//     TargetLogit target(double cos_theta, double lambda, const MarginParameters &parameters)
#include MARGIN_HEADER

// What multiplies cosines; crates/tensor/src/op/margin_softmax.rs says what each is.
enum Scale : u32 { INNER_PRODUCT = 0, FEATURE_NORM = 1, CONSTANT = 2 };

// By which values the target's is the largest: bits of `hits`.
enum Hit : u32 { HIT_LOGITS = 1, HIT_COSINES = 2, HIT_PENALISED = 4 };

// The head, as crates/cuda/src/launcher/margin_softmax.rs passes it.
struct Head {
    u32 batch;            // N
    u32 dimension;        // D
    u32 classes;          // C
    u32 steps;            // length of `lambdas`
    u32 scale;            // a Scale
    float constant;       // the scale itself where it is CONSTANT
    u32 rounded;          // whether products are x̂ · ŵ of directions rounded to bf16, not x · w
    u32 pitch;            // elements of a row of the products' operands and of their gradients' sums: D, or to a
                          // multiple of 8, filled up with zeros, where they are rounded
    MarginParameters parameters;
};

// The operands that both passes read.
struct Operands {
    const float *embedding;  // [N, D]
    const float *weight;     // [C, D]
    const u32 *labels;       // [N]
    const u32 *count;        // [1]
    const float *lambdas;    // [steps]
    const u32 *counter;      // [1]
};

// Elements of bf16 rows are copied eight at a time.
__device__ __forceinline__ u32 to_eight(u32 length) { return (length + 7) / 8 * 8; }

// Norms below this are taken for it: a zero vector has a direction of length zero.
__device__ __forceinline__ double floored(double norm) { return norm < 1e-12 ? 1e-12 : norm; }

// Where a maximum starts: the most negative finite number, so that differences stay finite.
constexpr float LOWEST = -3.402823466e38f;

// The larger, as a running maximum wants it: a NaN leaves it as it is, and shows in the sum of exponentials.
__device__ __forceinline__ float larger(float a, float b) { return b > a ? b : a; }

// ‖vector‖² in f64, by a warp: the same bits in every lane.
__device__ __forceinline__ double warp_square(const float *__restrict__ vector, u32 length) {
    double square = 0;
    for (u32 d = threadIdx.x % WARP; d < length; d += WARP) square += double(vector[d]) * double(vector[d]);
    return warp_sum(square);
}

// The target's entry of a row, in f64 from the f32 operands: margins multiply what is lost in a cosine by up to m².
struct Target {
    u32 label;
    double norm;       // ‖x‖
    double cosine;     // c = x̂ · ŵ of the label's class
    double scale;      // what multiplies cosines: κ_i, times ‖w‖ where weights are not normalised
    float factor;      // what makes a logit of a product, besides the class's factor: κ_i / ‖x‖, of rounded ones κ_i
    TargetLogit bent;  // h(c), h′(c)
};

// By a warp: the same in every lane.
__device__ __forceinline__ Target target_of(const Head &head, const Operands &in, u32 row) {
    const float *x = in.embedding + u64(row) * head.dimension;
    Target entry;
    entry.label = in.labels[row];
    const float *w = in.weight + u64(entry.label) * head.dimension;
    double product = 0, square = 0, weight_square = 0;
    for (u32 d = threadIdx.x % WARP; d < head.dimension; d += WARP) {
        double a = x[d], b = w[d];
        product += a * b;
        square += a * a;
        weight_square += b * b;
    }
    entry.norm = floored(sqrt(warp_sum(square)));
    double weight_norm = floored(sqrt(warp_sum(weight_square)));
    double cosine = warp_sum(product) / (entry.norm * weight_norm);
    entry.cosine = cosine < -1 ? -1 : cosine > 1 ? 1 : cosine;
    bool constant = head.scale == CONSTANT;
    entry.factor = constant ? head.constant / float(entry.norm) : 1.0f;
    if (head.rounded) entry.factor = constant ? head.constant : float(entry.norm);
    entry.scale = constant ? head.constant : head.scale == FEATURE_NORM ? entry.norm : entry.norm * weight_norm;
    u32 step = in.counter[0], last = head.steps - 1;
    entry.bent = target(entry.cosine, in.lambdas[step < last ? step : last], head.parameters);
    return entry;
}

// What makes a logit of the product of x and a weight, as they are, besides the row's factor.
__device__ __forceinline__ float class_factor(const Head &head, float inverse_norm) {
    return head.scale == INNER_PRODUCT ? 1.0f : inverse_norm;
}

// Softmax of a row over the classes seen so far.
struct alignas(16) Online {
    float largest;       // logit
    float sum;           // Σ exp(z − largest)
    float rival;         // largest logit of the other classes
    float rival_cosine;  // their largest ‖x‖ cos θ
};

// What the forward pass writes.
struct Results {
    float *loss, *log_sum_exp, *target_cosine, *norm;  // [N]
    float *inverse_norm;                               // [C]
    u32 *hits;                                         // [N]
};

// Ends a row whose classes were all seen. A tie is a miss. By one thread.
__device__ __forceinline__ void write_row(const Results &out, const Target &entry, const Online &online, u32 row,
                                          bool valid) {
    float log_sum_exp = online.largest + logf(online.sum);
    float plain = entry.scale * entry.cosine, penalised = entry.scale * entry.bent.value;
    float projected = entry.norm * entry.cosine;
    u32 hits = (plain > online.rival ? HIT_LOGITS : 0) | (projected > online.rival_cosine ? HIT_COSINES : 0) |
               (penalised > online.rival ? HIT_PENALISED : 0);
    out.loss[row] = valid ? log_sum_exp - penalised : 0.0f;
    out.log_sum_exp[row] = log_sum_exp;
    out.target_cosine[row] = entry.cosine;
    out.norm[row] = entry.norm;
    out.hits[row] = valid ? hits : 0;
}

// What the backward pass needs of a row besides its operands.
struct alignas(16) Slopes {
    float weight;  // factor / count: the gradient of a product is this times its softmax, without the target's margin
    float factor;  // as in Target
    float target;  // the gradient of the target's product, with its margin
    float along;   // the gradient along x̂, apart from what the products' gradients give
};

// All zero for a row past `count`.
__device__ __forceinline__ Slopes slopes_of(const Head &head, const Target &entry, float log_sum_exp, u32 row,
                                            u32 count) {
    if (row >= count) return {};
    // softmax − 1 of the target, exact where the softmax is close to 1.
    float g = expm1f(float(entry.scale * entry.bent.value - log_sum_exp)) / float(count);
    float slope = entry.bent.slope, bending = entry.bent.value - entry.bent.slope * entry.cosine;
    float along = head.scale == CONSTANT ? 0.0f : float(entry.scale) / float(entry.norm) * g * bending;
    return {entry.factor / float(count), entry.factor, entry.factor * g * slope, along};
}

// What d_x has to gain times x, once it is Σ_j g_j w_j over the gradients of the products x · w_j; `projection` is that
// sum's product with x. With a constant scale the loss does not change along x, so the sum's part along x̂ is taken
// away.
__device__ __forceinline__ float radial_of(const Head &head, const Slopes &slope, float norm, float projection) {
    float inverse = 1 / norm;
    return head.scale == CONSTANT ? -projection * inverse * inverse : slope.along * inverse;
}

// The gradient of the weights of the classes [first, first + classes), from the sums Σ_i g_ij x_i over the gradients of
// the products x_i · w_j. A warp a class.
//
// sums [parts, lines, pitch] are added up in order; of rounded products they are those of x̂_i, and want 1 / ‖w_j‖. Without
// its part along ŵ_j where that is normalised; else with what bending the targets' logits gives along it.
__device__ __forceinline__ void weight_gradient(const Head &head, const Operands &in, const float *norm,
                                                const float *inverse_norm, const Slopes *slopes, const float *sums,
                                                float *d_weight, u32 first, u32 classes, u32 parts) {
    u32 lane = threadIdx.x % WARP, at = global_thread() / WARP, j = first + at;
    if (at >= classes) return;
    const float *w = in.weight + u64(j) * head.dimension;
    float *d_w = d_weight + u64(at) * head.dimension, projection = 0, scale = head.rounded ? inverse_norm[j] : 1;
    u32 lines = head.rounded ? to_eight(classes) : classes;
    for (u32 d = lane; d < head.dimension; d += WARP) {
        float sum = 0;
#pragma unroll 4
        for (u32 part = 0; part < parts; ++part) sum += sums[(u64(part) * lines + at) * head.pitch + d];
        sum *= scale;
        d_w[d] = sum;
        projection += sum * w[d];
    }
    float along = -warp_sum(projection);
    if (head.scale == INNER_PRODUCT) {
        along = 0;
        u32 count = min(in.count[0], head.batch);
        for (u32 row = lane; row < count; row += WARP)
            if (in.labels[row] == j) along += slopes[row].along * norm[row];
        along = warp_sum(along);
    }
    along *= inverse_norm[j] * inverse_norm[j];
    for (u32 d = lane; d < head.dimension; d += WARP) d_w[d] += along * w[d];
}
