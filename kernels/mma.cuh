// The instructions of the tensor-core tier: mma.sync with fp32 sums, ldmatrix, cp.async. Compute capability 8.0 and
// later.
//
// The element type says the arithmetic: float operands are rounded to TF32 (10 mantissa bits) when they are loaded into
// registers, bf16 operands are taken as they are.
#pragma once
#include "common.cuh"

// 16 bytes from global to shared memory, past registers and first-level cache; zeros where nothing is `present`.
// Both addresses are 16-byte aligned; `from` is not read unless present. No thread may touch `to` before the wait.
__device__ __forceinline__ void copy_async(u32 to, const void *from, bool present) {
    u32 bytes = present ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
}

// Ends a group of copies, which may be empty.
__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until at most `PENDING` of this thread's latest groups are under way.
template <int PENDING>
__device__ __forceinline__ void wait_for_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

// Four 8x8 matrices of 16-bit elements, lane 8i + r giving the address of row r of matrix i (16 bytes). Register i gets
// matrix i: lane 4r + p holds elements 2p and 2p + 1 of row r. As 8x4 matrices of 32 bits: element p of row r.
__device__ __forceinline__ void load_matrices(u32 (&to)[4], u32 address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(address)
                 : "memory");
}

// As load_matrices, but lane 4c + p holds the elements of column c in rows 2p and 2p + 1.
__device__ __forceinline__ void load_matrices_transposed(u32 (&to)[4], u32 address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(address)
                 : "memory");
}

// One element of shared memory.
__device__ __forceinline__ u32 load_shared(u32 address) {
    u32 bits;
    asm volatile("ld.shared.b32 %0, [%1];" : "=r"(bits) : "r"(address) : "memory");
    return bits;
}

// fp32 bits rounded to TF32: nearest, ties away from zero; infinities and NaN stay what they are.
__device__ __forceinline__ u32 round_to_tf32(u32 bits) {
    u32 rounded;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(__uint_as_float(bits)));
    return rounded;
}

// sum += a · b for a 16x16 (bf16) or 16x8 (TF32) and a 16x8 or 8x8 matrix. With g = lane / 4 and t = lane % 4, sum
// holds row g at columns 2t and 2t + 1, then row g + 8. A 32-bit part of the reduction (two bf16 or one TF32) at t or
// t + 4: a holds (g, t), (g + 8, t), (g, t + 4), (g + 8, t + 4); b holds (t, g), (t + 4, g).
template <class T>
__device__ __forceinline__ void multiply_add(float (&sum)[4], const u32 (&a)[4], const u32 (&b)[2]);

template <>
__device__ __forceinline__ void multiply_add<bf16>(float (&sum)[4], const u32 (&a)[4], const u32 (&b)[2]) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

template <>
__device__ __forceinline__ void multiply_add<float>(float (&sum)[4], const u32 (&a)[4], const u32 (&b)[2]) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
