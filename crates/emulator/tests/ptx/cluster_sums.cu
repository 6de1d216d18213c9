// Clusters of two blocks on sm_90a: each loads half of every tile and sends it to both, by multicast, in a ring of two
// stages. A tile is 64 floats; every block adds up all tiles, column by column, and has them arrive at both blocks when
// it has read a stage. A block of 64 threads. x [TILES, 64]; y [blocks, 64] fp32.
typedef unsigned int u32;
typedef unsigned long long u64;

__device__ __forceinline__ u32 shared_address(const void* pointer) { return (u32)__cvta_generic_to_shared(pointer); }

__device__ __forceinline__ void wait(u32 barrier, u32 parity) {
    asm volatile(
        "{\n"
        ".reg .pred done;\n"
        "again:\n"
        "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 done, [%0], %1;\n"
        "@!done bra.uni again;\n"
        "}" ::"r"(barrier), "r"(parity) : "memory");
}

__device__ __forceinline__ void cluster_barrier() {
    asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

extern "C" __global__ void __cluster_dims__(2, 1, 1) __launch_bounds__(64) cluster_sums(
    const float* x, float* y, int tiles) {
    __shared__ __align__(128) float stages[2][64];
    __shared__ u64 full[2], empty[2];
    u32 rank;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    if (threadIdx.x == 0) {
        for (int stage = 0; stage < 2; stage++) {
            asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(shared_address(&full[stage])) : "memory");
            asm volatile("mbarrier.init.shared::cta.b64 [%0], 4;" ::"r"(shared_address(&empty[stage])) : "memory");
        }
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    cluster_barrier();
    float sum = 0;
#pragma unroll 1
    for (int tile = 0; tile < tiles; tile++) {
        int stage = tile % 2;
        u32 arrived = shared_address(&full[stage]), read = shared_address(&empty[stage]);
        if (threadIdx.x == 0) {
            // Both warps of both blocks have read what was here.
            wait(read, (tile / 2 & 1) ^ 1);
            asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], 256;" ::"r"(arrived) : "memory");
            asm volatile(
                "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster "
                "[%0], [%1], 128, [%2], %3;" ::"r"(shared_address(&stages[stage][rank * 32])),
                "l"(x + tile * 64 + rank * 32), "r"(arrived), "h"((unsigned short)3)
                : "memory");
        }
        __syncwarp();
        wait(arrived, tile / 2 & 1);
        sum += stages[stage][threadIdx.x];
        __syncwarp();
        if (threadIdx.x % 32 < 2) {
            u32 there;
            asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(read), "r"(threadIdx.x % 32));
            asm volatile("mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%0];" ::"r"(there) : "memory");
        }
    }
    y[blockIdx.x * 64 + threadIdx.x] = sum;
    // Nobody ends while the other may still send to it.
    cluster_barrier();
}
