// Softmax and log-sum-exp of the rows of x [rows, columns]: one block a row, shuffles inside warps, shared memory between.
// y [rows, columns], lse [rows]. Grid: rows; block: a multiple of 32, at most 1,024 threads.

__device__ __forceinline__ float block_max(float value, float* scratch) {
    for (int offset = 16; offset > 0; offset /= 2) value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, offset));
    if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = value;
    __syncthreads();
    value = scratch[0];
    for (int warp = 1; warp < blockDim.x / 32; warp++) value = fmaxf(value, scratch[warp]);
    __syncthreads();
    return value;
}

__device__ __forceinline__ float block_sum(float value, float* scratch) {
    for (int offset = 16; offset > 0; offset /= 2) value += __shfl_down_sync(0xffffffffu, value, offset);
    if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = value;
    __syncthreads();
    value = 0.0f;
    for (int warp = 0; warp < blockDim.x / 32; warp++) value += scratch[warp];
    __syncthreads();
    return value;
}

extern "C" __global__ void softmax(const float* __restrict__ x, float* __restrict__ y, float* __restrict__ lse, int columns) {
    __shared__ float scratch[32];
    const float* row = x + (long long)blockIdx.x * columns;
    float maximum = __int_as_float(0xff800000);
    for (int column = threadIdx.x; column < columns; column += blockDim.x) maximum = fmaxf(maximum, row[column]);
    maximum = block_max(maximum, scratch);
    float sum = 0.0f;
    for (int column = threadIdx.x; column < columns; column += blockDim.x) sum += expf(row[column] - maximum);
    sum = block_sum(sum, scratch);
    for (int column = threadIdx.x; column < columns; column += blockDim.x)
        y[(long long)blockIdx.x * columns + column] = __expf(row[column] - maximum) / sum;
    if (threadIdx.x == 0) lse[blockIdx.x] = maximum + logf(sum);
}
