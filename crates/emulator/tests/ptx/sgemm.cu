// C = A * B in fp32, row-major, any sizes: a block of 256 threads makes a tile of 128 x 128 by outer products.
// A [M, K], B [K, N], C [M, N]. Aligned interior tiles are loaded as float4. Grid: (ceil(N/128), ceil(M/128)).
#define TILE 128
#define DEPTH 8

__device__ __forceinline__ float4 load_row(const float* base, int row, int rows, int column, int columns) {
    float4 value = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (row >= rows) return value;
    const float* at = base + (long long)row * columns + column;
    if (column + 3 < columns && columns % 4 == 0) return *reinterpret_cast<const float4*>(at);
    if (column < columns) value.x = at[0];
    if (column + 1 < columns) value.y = at[1];
    if (column + 2 < columns) value.z = at[2];
    if (column + 3 < columns) value.w = at[3];
    return value;
}

extern "C" __global__ void __launch_bounds__(256) sgemm(
    const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ c, int m, int n, int k) {
    __shared__ __align__(16) float tile_a[DEPTH][TILE]; // transposed: [k, m]
    __shared__ __align__(16) float tile_b[DEPTH][TILE]; // [k, n]
    int thread = threadIdx.x;
    int tile_row = blockIdx.y * TILE, tile_column = blockIdx.x * TILE;
    int row = thread / 16 * 8, column = thread % 16 * 4; // columns: two groups of four, 64 apart
    float sum[8][8];
#pragma unroll
    for (int i = 0; i < 8; i++)
#pragma unroll
        for (int j = 0; j < 8; j++) sum[i][j] = 0.0f;

    for (int start = 0; start < k; start += DEPTH) {
        float4 from_a = load_row(a, tile_row + thread / 2, m, start + thread % 2 * 4, k);
        float4 from_b = load_row(b, start + thread / 32, k, tile_column + thread % 32 * 4, n);
        __syncthreads();
        int depth = thread % 2 * 4;
        tile_a[depth][thread / 2] = from_a.x;
        tile_a[depth + 1][thread / 2] = from_a.y;
        tile_a[depth + 2][thread / 2] = from_a.z;
        tile_a[depth + 3][thread / 2] = from_a.w;
        *reinterpret_cast<float4*>(&tile_b[thread / 32][thread % 32 * 4]) = from_b;
        __syncthreads();
#pragma unroll
        for (int step = 0; step < DEPTH; step++) {
            float x[8], y[8];
            *reinterpret_cast<float4*>(x) = *reinterpret_cast<float4*>(&tile_a[step][row]);
            *reinterpret_cast<float4*>(x + 4) = *reinterpret_cast<float4*>(&tile_a[step][row + 4]);
            *reinterpret_cast<float4*>(y) = *reinterpret_cast<float4*>(&tile_b[step][column]);
            *reinterpret_cast<float4*>(y + 4) = *reinterpret_cast<float4*>(&tile_b[step][column + 64]);
#pragma unroll
            for (int i = 0; i < 8; i++)
#pragma unroll
                for (int j = 0; j < 8; j++) sum[i][j] += x[i] * y[j];
        }
    }
#pragma unroll
    for (int i = 0; i < 8; i++)
#pragma unroll
        for (int j = 0; j < 8; j++) {
            int to_row = tile_row + row + i, to_column = tile_column + column + j % 4 + j / 4 * 64;
            if (to_row < m && to_column < n) c[(long long)to_row * n + to_column] = sum[i][j];
        }
}
