// advance: counter += 1, the last step of a plan.
//
// counter  [1] u32   updated
//
// Grid: one block of one thread. Floor: the launch.
// Partners: crates/tensor/src/op/advance.rs, crates/tensor/src/cpu/advance.rs, crates/cuda/src/launcher/advance.rs.
#include "common.cuh"

KERNELS_OVERLAP

extern "C" __global__ void advance(u32 *counter) {
    await_previous();
    counter[0] += 1;
}
