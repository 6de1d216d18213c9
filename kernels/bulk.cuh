// How data gets to the products of warpgroups and back on sm_90a: transaction barriers, bulk tensor copies, the fences
// between them and plain accesses, and how a block divides its work among its warps.
//
// A bulk copy is asynchronous: one thread asks for a box of a tensor, and a barrier in shared memory tells when all its
// bytes are there. The usual ring of stages has two barriers a stage. `full` expects one arrival, of the thread that
// copies (arrive_expecting), and the bytes; `empty` expects one of each reader. In the round r of a stage the reader
// waits for phase r of `full`, the thread that copies for phase r − 1 of `empty`: wait(full, r & 1) and
// wait(empty, r & 1 ^ 1), which passes at once in round 0.
#pragma once
#include "common.cuh"

// A tensor as bulk copies see it, encoded by the driver: a parameter `const __grid_constant__ TensorMap`.
struct alignas(64) TensorMap {
    u8 opaque[128];
};

// ---- Transaction barriers: 8 bytes of shared memory, aligned to 8.

// One thread; `arrivals` end a phase. Other threads may use it after barriers_are_ready() and a barrier of the block.
__device__ __forceinline__ void barrier_init(u32 barrier, u32 arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}

// Shows the barriers that this thread has made to bulk copies.
__device__ __forceinline__ void barriers_are_ready() {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

__device__ __forceinline__ void arrive(u32 barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

// Arrives, and has the phase wait for so many bytes more of bulk copies.
__device__ __forceinline__ void arrive_expecting(u32 barrier, u32 bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

// Waits until the phase of this parity has ended; what was arrived with is seen by this thread.
__device__ __forceinline__ void wait(u32 barrier, u32 parity) {
    asm volatile(
        "{\n"
        ".reg .pred done;\n"
        "again:\n"
        "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
        "@done bra.uni ready;\n"
        "bra.uni again;\n"
        "ready:\n"
        "}" ::"r"(barrier), "r"(parity)
        : "memory");
}

// Stages of a ring in shared memory, as one of its users walks over them: a pair of barriers each, full and empty.
struct Ring {
    u32 memory, stage_bytes, stages, barriers;
    u32 stage = 0, phase = 0;

    __device__ __forceinline__ u32 place() const { return memory + stage * stage_bytes; }
    __device__ __forceinline__ u32 full() const { return barriers + stage * 16; }
    __device__ __forceinline__ u32 empty() const { return full() + 8; }
    __device__ __forceinline__ void wait_full() const { wait(full(), phase); }
    __device__ __forceinline__ void wait_empty() const { wait(empty(), phase ^ 1); }
    __device__ __forceinline__ void advance() {
        stage = stage + 1 == stages ? 0 : stage + 1;
        phase ^= stage == 0;
    }
    // Gives back a stage unread, as one lane of each warp does: it must be full, or this would count for another round.
    __device__ __forceinline__ void skip(bool arrives) {
        wait_full();
        if (arrives) arrive(empty());
        advance();
    }
    // Goes on behind so many stages that others use. They must have been full before this user waits again: a barrier
    // tells a phase from the next one only.
    __device__ __forceinline__ void pass(u32 count) {
        stage += count;
        phase ^= stage / stages & 1;
        stage %= stages;
    }
};

// ---- Bulk tensor copies, by one thread. Coordinates of the box go from the innermost dimension outwards and may lie
// outside of the tensor: such elements come as zeros, and are not written. Addresses in shared memory are multiples of
// 128, with the 128-byte swizzle of 1,024.

// Has a tensor map fetched that a later copy needs: before await_previous(), as launches do not change their parameters.
__device__ __forceinline__ void prefetch(const TensorMap &map) {
    asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
}

#define LOAD_BOX "d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {"
#define LOAD_BOX_TO "d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1, {"
#define STORE_BOX "d.global.shared::cta.bulk_group [%1, {"

// Global to shared memory; the bytes of the whole box arrive at the barrier.
template <u32 RANK>
__device__ __forceinline__ void load_box(u32 to, const TensorMap &map, const int (&at)[RANK], u32 barrier) {
    static_assert(RANK >= 2 && RANK <= 5, "the dimensions that are used");
    if constexpr (RANK == 2) {
        asm volatile("cp.async.bulk.tensor.2" LOAD_BOX "%3, %4}], [%2];" ::"r"(to), "l"(&map), "r"(barrier),
                     "r"(at[0]), "r"(at[1])
                     : "memory");
    } else if constexpr (RANK == 3) {
        asm volatile("cp.async.bulk.tensor.3" LOAD_BOX "%3, %4, %5}], [%2];" ::"r"(to), "l"(&map), "r"(barrier),
                     "r"(at[0]), "r"(at[1]), "r"(at[2])
                     : "memory");
    } else if constexpr (RANK == 4) {
        asm volatile("cp.async.bulk.tensor.4" LOAD_BOX "%3, %4, %5, %6}], [%2];" ::"r"(to), "l"(&map), "r"(barrier),
                     "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(at[3])
                     : "memory");
    } else {
        asm volatile("cp.async.bulk.tensor.5" LOAD_BOX "%3, %4, %5, %6, %7}], [%2];" ::"r"(to), "l"(&map), "r"(barrier),
                     "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(at[3]), "r"(at[4])
                     : "memory");
    }
}

// The same to the same places of all blocks of a cluster that `blocks` has a bit for: the bytes arrive at the barriers of
// each of them.
template <u32 RANK>
__device__ __forceinline__ void load_box_to(u16 blocks, u32 to, const TensorMap &map, const int (&at)[RANK],
                                            u32 barrier) {
    static_assert(RANK == 2 || RANK == 3, "the dimensions that are used");
    if constexpr (RANK == 2) {
        asm volatile("cp.async.bulk.tensor.2" LOAD_BOX_TO "%4, %5}], [%2], %3;" ::"r"(to), "l"(&map), "r"(barrier),
                     "h"(blocks), "r"(at[0]), "r"(at[1])
                     : "memory");
    } else {
        asm volatile("cp.async.bulk.tensor.3" LOAD_BOX_TO "%4, %5, %6}], [%2], %3;" ::"r"(to), "l"(&map), "r"(barrier),
                     "h"(blocks), "r"(at[0]), "r"(at[1]), "r"(at[2])
                     : "memory");
    }
}

// Shared to global memory. What threads wrote there before must be shown by writes_are_ready().
template <u32 RANK>
__device__ __forceinline__ void store_box(const TensorMap &map, const int (&at)[RANK], u32 from) {
    static_assert(RANK >= 2 && RANK <= 5, "the dimensions that are used");
    if constexpr (RANK == 2) {
        asm volatile("cp.async.bulk.tensor.2" STORE_BOX "%2, %3}], [%0];" ::"r"(from), "l"(&map),
                     "r"(at[0]), "r"(at[1])
                     : "memory");
    } else if constexpr (RANK == 3) {
        asm volatile("cp.async.bulk.tensor.3" STORE_BOX "%2, %3, %4}], [%0];" ::"r"(from), "l"(&map),
                     "r"(at[0]), "r"(at[1]), "r"(at[2])
                     : "memory");
    } else if constexpr (RANK == 4) {
        asm volatile("cp.async.bulk.tensor.4" STORE_BOX "%2, %3, %4, %5}], [%0];" ::"r"(from), "l"(&map),
                     "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(at[3])
                     : "memory");
    } else {
        asm volatile("cp.async.bulk.tensor.5" STORE_BOX "%2, %3, %4, %5, %6}], [%0];" ::"r"(from), "l"(&map),
                     "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(at[3]), "r"(at[4])
                     : "memory");
    }
}
#undef LOAD_BOX
#undef LOAD_BOX_TO
#undef STORE_BOX

// Ends a group of stores.
__device__ __forceinline__ void commit_stores() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }

// Waits until all but this thread's latest `PENDING` groups of stores have read shared memory: it may be written then.
// A block must not end before.
template <int PENDING>
__device__ __forceinline__ void wait_for_stores() {
    asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(PENDING) : "memory");
}

// ---- Fences and warps.

// Shows this thread's writes to shared memory to bulk copies and to products, which go another way there: after the
// writes, before the barrier that lets the copy or product begin.
__device__ __forceinline__ void writes_are_ready() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// A barrier of `threads` threads of the block, whole warps; numbers from 1 on, __syncthreads has 0.
__device__ __forceinline__ void sync_threads(u32 number, u32 threads) {
    asm volatile("bar.sync %0, %1;" ::"r"(number), "r"(threads) : "memory");
}

// Arrives at such a barrier for others to pass, and goes on.
__device__ __forceinline__ void arrive_threads(u32 number, u32 threads) {
    asm volatile("bar.arrive %0, %1;" ::"r"(number), "r"(threads) : "memory");
}

// A barrier of all threads of a cluster's blocks, converged; it shows what each did before to the others. A block must not
// end while another may arrive at its barriers or send it copies.
__device__ __forceinline__ void sync_cluster() {
    asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}

// Where an address of the own shared memory lies in block `rank` of the cluster.
__device__ __forceinline__ u32 in_block(u32 address, u32 rank) {
    u32 there;
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(address), "r"(rank));
    return there;
}

// Stores 16 bytes to shared memory of any block of the cluster. Between two sync_cluster: the first shows that nobody uses
// the place any more, the second makes the stores seen there.
__device__ __forceinline__ void store_in_block(u32 address, float a, float b, float c, float d) {
    asm volatile("st.shared::cluster.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"(address), "f"(a), "f"(b), "f"(c), "f"(d)
                 : "memory");
}

// 16 bytes of the own shared memory.
__device__ __forceinline__ Pack<float, 4> load_four(u32 address) {
    Pack<float, 4> four;
    asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(four.values[0]), "=f"(four.values[1]), "=f"(four.values[2]), "=f"(four.values[3])
                 : "r"(address)
                 : "memory");
    return four;
}

// Arrives at the barrier at the same place in block `rank` of the cluster. Orders no plain accesses to memory (with
// .release.cluster the compiler would put a fence of the whole GPU before it): for stages that only products have read.
__device__ __forceinline__ void arrive_at(u32 barrier, u32 rank) {
    asm volatile(
        "{\n"
        ".reg .b32 there;\n"
        "mapa.shared::cluster.u32 there, %0, %1;\n"
        "mbarrier.arrive.shared::cluster.b64 _, [there];\n"
        "}" ::"r"(barrier), "r"(rank)
        : "memory");
}

// Whether this is the one lane of the converged warp that acts for it.
__device__ __forceinline__ bool elect() {
    u32 elected;
    asm volatile(
        "{\n"
        ".reg .pred elected;\n"
        "elect.sync _|elected, 0xffffffff;\n"
        "selp.u32 %0, 1, 0, elected;\n"
        "}"
        : "=r"(elected)::"memory");
    return elected;
}

// Registers of each thread of a warpgroup from here on, a multiple of 8: its four warps give back what they do not need,
// or wait until others have. The kernel has __launch_bounds__, from which follows what its warps begin with.
template <int COUNT>
__device__ __forceinline__ void fewer_registers() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(COUNT));
}
template <int COUNT>
__device__ __forceinline__ void more_registers() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(COUNT));
}

// Four 8x8 matrices of 16-bit elements to shared memory, lane 8i + r giving the address of row r of matrix i, 16 bytes.
// Register i holds of matrix i what a product leaves in a lane: elements 2p and 2p + 1 of row r in lane 4r + p.
__device__ __forceinline__ void store_matrices(u32 address, const u32 (&from)[4]) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared::cta.b16 [%0], {%1, %2, %3, %4};" ::"r"(address),
                 "r"(from[0]), "r"(from[1]), "r"(from[2]), "r"(from[3])
                 : "memory");
}

// The same with each matrix transposed: row r in memory is column r of the registers.
__device__ __forceinline__ void store_matrices_transposed(u32 address, const u32 (&from)[4]) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared::cta.b16 [%0], {%1, %2, %3, %4};" ::"r"(address),
                 "r"(from[0]), "r"(from[1]), "r"(from[2]), "r"(from[3])
                 : "memory");
}
