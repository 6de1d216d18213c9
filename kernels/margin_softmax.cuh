// What the passes of the head share: its sizes, the target's entry of a row, the running softmax.
#pragma once
#include "four.cuh"

// Value and slope of the target's logit as a function of its cosine, before the scale.
struct Bent {
    double value;  // h(cos θ)
    double slope;  // h′(cos θ), with respect to the cosine
};

// The same of another class.
struct BentOther {
    float value, slope;
};

// The numbers that Margin::parameters returns, in its order.
using MarginParameters = double[8];

// Defines the margin that this unit is compiled for:
//     Bent target(double cos_theta, double modifier, const MarginParameters &parameters)
// and, where it bends the others, too, MARGIN_BENDS_OTHERS with
//     BentOther other(float cos_theta, const MarginParameters &parameters)
#include MARGIN_HEADER

#ifdef MARGIN_BENDS_OTHERS
constexpr bool BENDS_OTHERS = true;
#else
constexpr bool BENDS_OTHERS = false;
__device__ __forceinline__ BentOther other(float cos_theta, const MarginParameters &) { return {cos_theta, 1.0f}; }
#endif

// What multiplies cosines; crates/tensor/src/op/margin_softmax.rs says what each is.
enum Scale : u32 { INNER_PRODUCT = 0, FEATURE_NORM = 1, CONSTANT = 2 };

// Which derivative of the bent cosines is followed, and what makes a loss of logits; likewise.
enum Gradient : u32 { GRADIENT_TRUE = 0, GRADIENT_DETACHED = 1, GRADIENT_CAFFE = 2 };
enum Link : u32 { LINK_SOFTMAX = 0, LINK_BINARY = 1 };

// By which values the target's is the largest: bits of `hits`.
enum Hit : u32 { HIT_LOGITS = 1, HIT_COSINES = 2, HIT_PENALISED = 4 };

// The head, as crates/cuda/src/launcher/margin_softmax.rs passes it.
struct Head {
    u32 batch;            // N
    u32 dimension;        // D
    u32 classes;          // C
    u32 steps;            // length of `modifiers`, if they are λ of steps
    u32 scale;            // a Scale
    float constant;       // the scale itself where it is CONSTANT
    u32 rounded;          // whether products are x̂ · ŵ of directions rounded to bf16, not x · w
    u32 pitch;            // elements of a row of the products' operands and of their gradients' sums: D, or to a
                          // multiple of 8, filled up with zeros, where they are rounded
    u32 gradient;         // a Gradient
    u32 link;             // a Link
    float positive;       // the target's share of the loss where the link is BINARY
    float loss_factor;    // what multiplies the loss of the logits
    float penalty;        // weight of |‖x‖ − penalty_norm| in the loss
    float penalty_norm;
    float energy;         // weight of the class weights' energy in the loss
    u32 of_rows;          // whether `modifiers` are of rows, not λ of steps
    MarginParameters parameters;
};

// The operands that both passes read.
struct Operands {
    const float *embedding;  // [N, D]
    const float *weight;     // [C, D]
    const u32 *labels;       // [N]
    const u32 *count;        // [1]
    const float *modifiers;  // [steps] or [N]
    const u32 *counter;      // [1]
    const float *bias;       // [1] where the link is BINARY, else null
};

// Elements of bf16 rows are copied eight at a time.
__device__ __forceinline__ u32 to_eight(u32 length) { return (length + 7) / 8 * 8; }

// Norms below this are taken for it: a zero vector has a direction of length zero.
__device__ __forceinline__ double floored(double norm) { return norm < 1e-12 ? 1e-12 : norm; }

// Where a maximum starts: the most negative finite number, so that differences stay finite.
constexpr float LOWEST = -3.402823466e38f;

// The larger, as a running maximum wants it: a NaN leaves it as it is, and shows in the sum of exponentials.
__device__ __forceinline__ float larger(float a, float b) { return fmaxf(a, b); }

// Four neighbouring values of a vector, zeros past its end.
__device__ __forceinline__ Four four_of(const float *vector, u32 d, u32 length) {
    return read_four(vector + d, int(length) - int(d), length % 4 == 0);
}

// Σ v² of four values, in f64.
__device__ __forceinline__ double square_of(const Four &four) {
    double square = 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) square += double(four.values[i]) * double(four.values[i]);
    return square;
}

__device__ __forceinline__ Four scaled(Four four, float factor) {
#pragma unroll
    for (int i = 0; i < 4; ++i) four.values[i] *= factor;
    return four;
}

// The lane's part of ‖vector‖². Whether fours are VECTORS is told once, so that several loads are under way at a time.
template <bool VECTORS>
__device__ __forceinline__ double lane_square(const float *__restrict__ vector, u32 length) {
    double square = 0;
#pragma unroll 4
    for (u32 d = threadIdx.x % WARP * 4; d < length; d += WARP * 4)
        square += square_of(read_four(vector + d, int(length - d), VECTORS));
    return square;
}

// ‖vector‖² in f64, by a warp: the same bits in every lane.
__device__ __forceinline__ double warp_square(const float *__restrict__ vector, u32 length) {
    return warp_sum(length % 4 == 0 ? lane_square<true>(vector, length) : lane_square<false>(vector, length));
}

// What makes a logit of a row's product, besides the class's factor.
__device__ __forceinline__ float row_factor(const Head &head, double norm) {
    if (head.rounded) return head.scale == CONSTANT ? head.constant : float(norm);
    return head.scale == CONSTANT ? head.constant / float(norm) : 1.0f;
}

// The target's entry of a row, in f64 from the f32 operands: margins multiply what is lost in a cosine by up to m².
struct Target {
    u32 label;
    double norm;       // ‖x‖
    double cosine;     // c = x̂ · ŵ of the label's class
    double scale;      // what multiplies cosines: κ_i, times ‖w‖ where weights are not normalised
    float factor;      // row_factor: κ_i / ‖x‖, of rounded products κ_i
    Bent bent;         // h(c), and the derivative of it that is followed
    double bending;    // what h(c) adds to the derivative along x̂, beyond what that one gives
    float pull;        // what is added of ŵ to the derivative with respect to x
    float bias;        // of all logits
};

// By a warp: the same in every lane.
__device__ __forceinline__ Target target_of(const Head &head, const Operands &in, u32 row) {
    const float *x = in.embedding + u64(row) * head.dimension;
    Target entry;
    entry.label = in.labels[row];
    const float *w = in.weight + u64(entry.label) * head.dimension;
    double product = 0, square = 0, weight_square = 0;
    for (u32 d = threadIdx.x % WARP * 4; d < head.dimension; d += WARP * 4) {
        Four of_x = four_of(x, d, head.dimension), of_w = four_of(w, d, head.dimension);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            double a = of_x.values[i], b = of_w.values[i];
            product += a * b;
            square += a * a;
            weight_square += b * b;
        }
    }
    entry.norm = floored(sqrt(warp_sum(square)));
    double weight_norm = floored(sqrt(warp_sum(weight_square)));
    double cosine = warp_sum(product) / (entry.norm * weight_norm);
    entry.cosine = cosine < -1 ? -1 : cosine > 1 ? 1 : cosine;
    bool constant = head.scale == CONSTANT;
    entry.factor = row_factor(head, entry.norm);
    entry.scale = constant ? head.constant : head.scale == FEATURE_NORM ? entry.norm : entry.norm * weight_norm;
    double lambda = in.modifiers[head.of_rows ? row : min(in.counter[0], head.steps - 1)];
    entry.bent = target(entry.cosine, lambda, head.parameters);
    entry.bending = entry.bent.value - entry.bent.slope * entry.cosine;
    entry.pull = 0;
    entry.bias = head.link == LINK_BINARY ? in.bias[0] : 0.0f;
    if (head.gradient == GRADIENT_DETACHED) {
        entry.bending = entry.bent.value - entry.cosine;
    } else if (head.gradient == GRADIENT_CAFFE) {
        // The margin's part of the logit, ‖x‖ ψ(c): its gradient a ŵ + b x is brought to √(a² + b²) = 1.
        double value = (1 + lambda) * entry.bent.value - lambda * entry.cosine;
        double along_w = (1 + lambda) * entry.bent.slope - lambda;
        double along_x = (value - entry.cosine * along_w) / entry.norm;
        double length = sqrt(along_w * along_w + along_x * along_x);
        entry.bending = along_x / length * entry.norm / (1 + lambda);
        entry.pull = (along_w / length - 1) / (1 + lambda);
    }
    if (head.gradient != GRADIENT_TRUE) entry.bent.slope = 1;
    return entry;
}

// log(1 + eᵘ) and 1 / (1 + e⁻ᵘ).
__device__ __forceinline__ float softplus(float u) { return fmaxf(u, 0.0f) + log1pf(expf(-fabsf(u))); }
__device__ __forceinline__ float sigmoid(float u) { return 1 / (1 + expf(-u)); }

// The logit of another class, of what it is where cosines are not bent, and of its cosine where they are.
__device__ __forceinline__ float other_logit(const Head &head, float straight, float cosine) {
    return BENDS_OTHERS ? head.constant * other(cosine, head.parameters).value : straight;
}

// What makes a logit of the product of x and a weight, as they are, besides the row's factor.
__device__ __forceinline__ float class_factor(const Head &head, float inverse_norm) {
    return head.scale == INNER_PRODUCT ? 1.0f : inverse_norm;
}

// What is known of a row from the classes seen so far.
struct alignas(16) Online {
    float largest;       // logit; of yes and no Σ σ(z + b) over the other classes
    float sum;           // Σ exp(z − largest); of yes and no Σ log(1 + exp(z + b)) over the other classes
    float rival;         // largest logit of the other classes
    float rival_cosine;  // their largest ‖x‖ cos θ
};

// Before any class is seen.
__device__ __forceinline__ Online nothing_seen(const Head &head) {
    return {head.link == LINK_BINARY ? 0.0f : LOWEST, 0, LOWEST, LOWEST};
}

// What the forward pass writes.
struct Results {
    float *loss, *log_sum_exp, *target_cosine, *norm;  // [N]
    float *inverse_norm;                               // [C]
    u32 *hits;                                         // [N]
};

// Ends a row whose classes were all seen; returns what it has for log_sum_exp. A tie is a miss. By one thread.
__device__ __forceinline__ float write_row(const Head &head, const Results &out, const Target &entry, const Online &online,
                                          u32 row, bool valid) {
    float plain = entry.scale * entry.cosine, penalised = entry.scale * entry.bent.value;
    float projected = entry.norm * entry.cosine, loss, statistic;
    if (head.link == LINK_BINARY) {
        loss = head.positive * softplus(-penalised - entry.bias) + (1 - head.positive) * online.sum;
        statistic = online.largest;
    } else {
        statistic = online.largest + logf(online.sum);
        loss = statistic - penalised;
    }
    loss = head.loss_factor * loss + head.penalty * fabsf(float(entry.norm - head.penalty_norm));
    // Bent logits are in the order of the cosines.
    if (BENDS_OTHERS) plain = other_logit(head, plain, entry.cosine);
    u32 hits = (plain > online.rival ? HIT_LOGITS : 0) | (projected > online.rival_cosine ? HIT_COSINES : 0) |
               (penalised > online.rival ? HIT_PENALISED : 0);
    out.loss[row] = valid ? loss : 0.0f;
    out.log_sum_exp[row] = statistic;
    out.target_cosine[row] = entry.cosine;
    out.norm[row] = entry.norm;
    out.hits[row] = valid ? hits : 0;
    return statistic;
}

// What the backward pass needs of a row besides its operands.
struct alignas(16) Slopes {
    float weight;  // factor / count: the gradient of a product is this times its softmax, without the target's margin
    float factor;  // as in Target
    float target;  // the gradient of the target's product, with its margin
    float along;   // the gradient along x̂, apart from what the products' gradients give
    float pull;    // the gradient along the target's ŵ, likewise
    float bias;    // the row's part of the gradient of the bias
    float unused[2];
};

// All zero for a row past `count`.
__device__ __forceinline__ Slopes slopes_of(const Head &head, const Target &entry, float log_sum_exp, u32 row,
                                            u32 count) {
    if (row >= count) return {};
    float g, bias = 0;
    if (head.link == LINK_BINARY) {
        g = -head.positive * sigmoid(-float(entry.scale * entry.bent.value) - entry.bias);
        bias = head.loss_factor * (g + (1 - head.positive) * log_sum_exp) / float(count);
    } else {
        // softmax − 1 of the target, exact where the softmax is close to 1.
        g = expm1f(float(entry.scale * entry.bent.value - log_sum_exp));
    }
    g = head.loss_factor * g / float(count);
    Slopes slopes = {head.loss_factor * entry.factor / float(count), entry.factor};
    double beyond = entry.norm - head.penalty_norm;
    slopes.target = entry.factor * g * float(entry.bent.slope);
    slopes.along = head.scale == CONSTANT ? 0.0f : float(entry.scale) / float(entry.norm) * g * float(entry.bending);
    slopes.along += head.penalty / float(count) * float((beyond > 0) - (beyond < 0));
    slopes.pull = g * entry.pull;
    slopes.bias = bias;
    return slopes;
}

// The gradient of the product of x with another class, from its logit as it is without bending and from its cosine.
__device__ __forceinline__ float other_slope(const Head &head, const Slopes &slope, float straight, float cosine,
                                             float log_sum_exp, float bias) {
    if (!BENDS_OTHERS) return slope.weight * expf(straight - log_sum_exp);
    BentOther bent = other(cosine, head.parameters);
    float logit = head.constant * bent.value, follow = head.gradient == GRADIENT_TRUE ? bent.slope : 1.0f;
    float error = head.link == LINK_BINARY ? (1 - head.positive) * sigmoid(logit + bias) : expf(logit - log_sum_exp);
    return slope.weight * error * follow;
}

// What d_x has to gain times x, once it is Σ_j g_j w_j over the gradients of the products x · w_j; `projection` is that
// sum's product with x. With a constant scale the loss does not change along x, so the sum's part along x̂ is taken
// away.
__device__ __forceinline__ float radial_of(const Head &head, const Slopes &slope, float norm, float projection) {
    float inverse = 1 / norm;
    return slope.along * inverse - (head.scale == CONSTANT ? projection * inverse * inverse : 0.0f);
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
#pragma unroll 8
        for (u32 part = 0; part < parts; ++part) sum += sums[(u64(part) * lines + at) * head.pitch + d];
        sum *= scale;
        d_w[d] = sum;
        projection += sum * w[d];
    }
    float along = head.gradient == GRADIENT_CAFFE ? 0.0f : -warp_sum(projection);
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
