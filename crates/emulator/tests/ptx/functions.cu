// Functions of CUDA's own library, each into its column of y [n, 16], and a sum over blocks with a ticket.
__constant__ float coefficients[4] = {1.0f, 2.0f, 3.0f, 4.0f};

// x [n] in [-1, 1). Grid: enough threads for n.
extern "C" __global__ void functions(const float* x, float* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float v = x[i];
    float* row = y + (long long)i * 16;
    row[0] = powf(fabsf(v), 1.7f);
    row[1] = acosf(v);
    row[2] = cosf(v * 100.0f);
    row[3] = sinf(v * 1e6f);
    row[4] = expf(v * 20.0f);
    row[5] = logf(fabsf(v) + 1e-3f);
    row[6] = tanhf(v);
    row[7] = atan2f(v, 0.3f);
    row[8] = log1pf(fabsf(v)) + expm1f(v);
    row[9] = cbrtf(v) + coefficients[i & 3];
    row[10] = fmodf(v * 37.0f, 1.3f);
    row[11] = (float)(exp((double)v) + log(2.0 + (double)v) + sqrt(fabs((double)v)) / 3.0);
    row[12] = (float)(i / 7 + i % 13) + (float)((long long)(i - 50) * 1234567891011LL / 97);
    row[13] = (float)(__popc(i) + __clz(i) + __ffs(i)) + (float)(__brev(i) >> 20);
    row[14] = floorf(v * 7.0f) + truncf(v * 3.0f) + rintf(v * 9.0f) + copysignf(1.0f, v);
    row[15] = (float)__float2int_rn(v * 10.0f) + (float)(unsigned char)i + (float)(signed char)(i * 3) + (float)(short)(i * 777);
}

// y [blocks + 1]: the sum of x [n] for each block, and of all by the last block. ticket starts at 0 and is 0 again at the end.
// count [blocks]: how many threads have a positive sum. Block: 128 threads.
extern "C" __global__ void block_sums(const float* x, float* y, unsigned* ticket, unsigned* count, int n) {
    __shared__ float part[128];
    __shared__ bool last;
    int thread = threadIdx.x;
    float sum = 0.0f;
    for (int i = blockIdx.x * 128 + thread; i < n; i += 128 * gridDim.x) sum += x[i];
    part[thread] = sum;
    for (int offset = 64; offset > 0; offset /= 2) {
        __syncthreads();
        if (thread < offset) part[thread] += part[thread + offset];
    }
    int positive = __syncthreads_count(sum > 0.0f);
    unsigned lanes = __reduce_add_sync(0xffffffffu, thread % 32);
    if (thread == 0) {
        y[blockIdx.x] = part[0];
        count[blockIdx.x] = positive + 1000 * lanes;
        __threadfence();
        last = atomicInc(ticket, gridDim.x - 1) == gridDim.x - 1;
    }
    __syncthreads();
    if (last && thread == 0) {
        float total = 0.0f;
        for (int block = 0; block < gridDim.x; block++) total += __ldcg(&y[block]);
        y[gridDim.x] = total;
    }
}
