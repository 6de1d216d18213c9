// C = A * B^T with bf16 operands and fp32 sums: cp.async in two stages, ldmatrix, mma.m16n8k16.
// A [M, K], B [N, K] bf16, K a multiple of 8; C [M, N] fp32. A block of 128 threads makes 64 x 64, a warp 32 x 32.
// Grid: (ceil(N/64), ceil(M/64)). Shared memory: 2 stages x (64 + 64) rows x 40 bf16, dynamic: 20,480 bytes.
#define TILE 64
#define DEPTH 32
#define STRIDE 40 // 32 and 8 of padding: the eight rows of a matrix lie in different banks

__device__ __forceinline__ unsigned shared_address(const void* pointer) {
    return (unsigned)__cvta_generic_to_shared(pointer);
}

__device__ __forceinline__ void copy_async(unsigned to, const void* from, int bytes) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
}

__device__ __forceinline__ void load_stage(
    unsigned short* stage, const unsigned short* a, const unsigned short* b, int m, int n, int k, int start) {
    for (int piece = threadIdx.x; piece < 2 * TILE * DEPTH / 8; piece += 128) {
        int row = piece / (DEPTH / 8), column = piece % (DEPTH / 8) * 8;
        bool of_b = row >= TILE;
        int from_row = of_b ? blockIdx.x * TILE + row - TILE : blockIdx.y * TILE + row;
        bool inside = from_row < (of_b ? n : m) && start + column < k;
        const unsigned short* from = of_b ? b : a;
        if (inside) from += (long long)from_row * k + start + column;
        copy_async(shared_address(stage + row * STRIDE + column), from, inside ? 16 : 0);
    }
    asm volatile("cp.async.commit_group;" ::: "memory");
}

__device__ __forceinline__ void load_matrix(unsigned (&fragment)[4], unsigned address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(fragment[0]), "=r"(fragment[1]), "=r"(fragment[2]), "=r"(fragment[3])
                 : "r"(address)
                 : "memory");
}

extern "C" __global__ void __launch_bounds__(128) hgemm(
    const unsigned short* __restrict__ a, const unsigned short* __restrict__ b, float* __restrict__ c, int m, int n, int k) {
    extern __shared__ __align__(16) unsigned short stages[]; // [2, 128, STRIDE]
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    int warp_row = warp / 2 * 32, warp_column = warp % 2 * 32;
    float sum[2][4][4] = {};
    int steps = (k + DEPTH - 1) / DEPTH;
    load_stage(stages, a, b, m, n, k, 0);
    for (int step = 0; step < steps; step++) {
        unsigned short* stage = stages + step % 2 * 2 * TILE * STRIDE;
        if (step + 1 < steps) {
            load_stage(stages + (step + 1) % 2 * 2 * TILE * STRIDE, a, b, m, n, k, (step + 1) * DEPTH);
            asm volatile("cp.async.wait_group 1;" ::: "memory");
        } else {
            asm volatile("cp.async.wait_group 0;" ::: "memory");
        }
        __syncthreads();
#pragma unroll
        for (int depth = 0; depth < DEPTH; depth += 16) {
            unsigned x[2][4], y[2][4];
#pragma unroll
            for (int i = 0; i < 2; i++) {
                int row = warp_row + i * 16 + lane % 16, column = depth + lane / 16 * 8;
                load_matrix(x[i], shared_address(stage + row * STRIDE + column));
            }
#pragma unroll
            for (int j = 0; j < 2; j++) {
                int row = TILE + warp_column + j * 16 + lane / 16 * 8 + lane % 8, column = depth + lane / 8 % 2 * 8;
                load_matrix(y[j], shared_address(stage + row * STRIDE + column));
            }
#pragma unroll
            for (int i = 0; i < 2; i++)
#pragma unroll
                for (int j = 0; j < 4; j++)
                    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                                 : "+f"(sum[i][j][0]), "+f"(sum[i][j][1]), "+f"(sum[i][j][2]), "+f"(sum[i][j][3])
                                 : "r"(x[i][0]), "r"(x[i][1]), "r"(x[i][2]), "r"(x[i][3]), "r"(y[j / 2][j % 2 * 2]),
                                   "r"(y[j / 2][j % 2 * 2 + 1]));
        }
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
        for (int j = 0; j < 4; j++)
#pragma unroll
            for (int part = 0; part < 4; part++) {
                int row = blockIdx.y * TILE + warp_row + i * 16 + lane / 4 + part / 2 * 8;
                int column = blockIdx.x * TILE + warp_column + j * 8 + lane % 4 * 2 + part % 2;
                if (row < m && column < n) c[(long long)row * n + column] = sum[i][j][part];
            }
}
