// C = A * B^T with bf16 operands and fp32 sums on sm_90a: bulk tensor copies with the 128-byte swizzle into a ring of
// stages, mbarriers, wgmma, a producer warpgroup and two consumer warpgroups, the result stored through shared memory.
// A [M, K], B [N, K] bf16 and C [M, N] fp32 behind tensor maps: boxes 64 x 128 of A and of B, 32 x 64 of C, each with
// the 128-byte swizzle. A block of 384 threads makes 128 x 128, a consumer 64 x 128. Grid: (ceil(N/128), ceil(M/128)).
// Shared memory, dynamic: STAGES x 32 KB, a tile of C in the first 64 KB afterwards, and 1 KB to align it.
#define STAGES 3
#define STAGE_BYTES 32768
typedef unsigned int u32;
typedef unsigned long long u64;
struct __align__(64) TensorMap { char opaque[128]; };

__device__ __forceinline__ u32 shared_address(const void* pointer) { return (u32)__cvta_generic_to_shared(pointer); }

__device__ __forceinline__ void barrier_init(u32 barrier, u32 count) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(count) : "memory");
}

__device__ __forceinline__ void arrive(u32 barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

__device__ __forceinline__ void arrive_expect(u32 barrier, u32 bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

__device__ __forceinline__ void wait(u32 barrier, u32 parity) {
    asm volatile(
        "{\n"
        ".reg .pred done;\n"
        "again:\n"
        "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
        "@done bra.uni ready;\n"
        "bra.uni again;\n"
        "ready:\n"
        "}" ::"r"(barrier), "r"(parity) : "memory");
}

__device__ __forceinline__ void load(u32 to, const TensorMap* map, int x, int y, u32 barrier) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];"
                 ::"r"(to), "l"(map), "r"(x), "r"(y), "r"(barrier) : "memory");
}

__device__ __forceinline__ void store(const TensorMap* map, int x, int y, u32 from) {
    asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%1, %2}], [%3];"
                 ::"l"(map), "r"(x), "r"(y), "r"(from) : "memory");
}

// K-major with the 128-byte swizzle: eight rows of 128 bytes, then the next eight 1,024 bytes further.
__device__ __forceinline__ u64 descriptor(u32 address) {
    return (u64)((address & 0x3ffff) >> 4) | (u64)1 << 16 | (u64)(1024 >> 4) << 32 | (u64)1 << 62;
}

__device__ __forceinline__ void multiply(float (&d)[64], u64 a, u64 b, int accumulate) {
    asm volatile(
        "{\n"
        ".reg .pred add;\n"
        "setp.ne.b32 add, %66, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
        "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
        "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "
        "%64, %65, add, 1, 1, 0, 0;\n"
        "}"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]),
          "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]),
          "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]),
          "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]),
          "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]),
          "+f"(d[40]), "+f"(d[41]), "+f"(d[42]), "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]),
          "+f"(d[48]), "+f"(d[49]), "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]),
          "+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63])
        : "l"(a), "l"(b), "r"(accumulate));
}

extern "C" __global__ void __launch_bounds__(384, 1) wgmma_gemm(
    const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b, const __grid_constant__ TensorMap c, int k) {
    extern __shared__ char unaligned[];
    __shared__ u64 full[STAGES], empty[STAGES];
    u32 stages = (shared_address(unaligned) + 1023) & ~1023u;
    int steps = (k + 63) / 64;
    int row = blockIdx.y * 128, column = blockIdx.x * 128, group = threadIdx.x / 128;
    if (threadIdx.x == 0) {
        for (int stage = 0; stage < STAGES; stage++) {
            barrier_init(shared_address(&full[stage]), 1);
            barrier_init(shared_address(&empty[stage]), 2);
        }
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    __syncthreads();
    if (group == 0) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
        if (threadIdx.x == 0) {
            for (int step = 0; step < steps; step++) {
                int stage = step % STAGES;
                u32 barrier = shared_address(&full[stage]), to = stages + stage * STAGE_BYTES;
                wait(shared_address(&empty[stage]), (step / STAGES & 1) ^ 1);
                arrive_expect(barrier, STAGE_BYTES);
                load(to, &a, step * 64, row, barrier);
                load(to + STAGE_BYTES / 2, &b, step * 64, column, barrier);
            }
        }
        return;
    }
    asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
    float d[64];
#pragma unroll 1
    for (int step = 0; step < steps; step++) {
        int stage = step % STAGES;
        wait(shared_address(&full[stage]), step / STAGES & 1);
        u32 of_a = stages + stage * STAGE_BYTES + (group - 1) * 8192, of_b = stages + stage * STAGE_BYTES + STAGE_BYTES / 2;
        asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#pragma unroll
        for (int part = 0; part < 4; part++) multiply(d, descriptor(of_a + 32 * part), descriptor(of_b + 32 * part), step > 0 || part > 0);
        asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
        // The step before has been read: its stage may be filled again.
        asm volatile("wgmma.wait_group.sync.aligned 1;" ::: "memory");
        if (step > 0 && threadIdx.x % 128 == 0) arrive(shared_address(&empty[(step - 1) % STAGES]));
    }
    asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
    // Both consumers have read their last stage: its place is taken by C, four boxes of 64 rows x 32 columns each.
    asm volatile("bar.sync 1, 256;" ::: "memory");
    int warp = threadIdx.x % 128 / 32, lane = threadIdx.x % 32;
    u32 tile = stages + (group - 1) * 32768;
#pragma unroll
    for (int i = 0; i < 64; i++) {
        int y = warp * 16 + lane / 4 + i % 4 / 2 * 8, x = i / 4 * 8 + lane % 4 * 2 + i % 2;
        u32 at = tile + x / 32 * 8192 + y * 128 + ((x % 32 / 4) ^ (y % 8)) * 16 + x % 4 * 4;
        asm volatile("st.shared.f32 [%0], %1;" ::"r"(at), "f"(d[i]) : "memory");
    }
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    asm volatile("bar.sync %0, 128;" ::"r"(group + 1) : "memory");
    if (threadIdx.x % 128 == 0) {
        for (int part = 0; part < 4; part++)
            store(&c, column + part * 32, row + (group - 1) * 64, tile + part * 8192);
        asm volatile("cp.async.bulk.commit_group;" ::: "memory");
        asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
    }
}
