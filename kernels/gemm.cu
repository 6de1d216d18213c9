#include "common.cuh"
#if __CUDA_ARCH__ >= 800
#include "gemm_mma.cuh"
#endif
