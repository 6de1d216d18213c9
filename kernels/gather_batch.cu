// gather_batch: takes the images of one batch from the data set, moves and mirrors them at random, normalises them.
//
//   x[h, w, n, c] = (images[image(n), source(n, h, w), c] − offset) · factor, background 0 before it is normalised
//
// images   [images, H·W·C] u8   read
// labels   [images] u8          read
// counter  [1] u32              read: the batch's number
// x        [H, W, N, C] f32     written
// out      [N] u32              written: labels of the batch
// count    [1] u32              written: valid rows; an unshuffled batch may run over the end of the data
//
// Which image row n is, and how it moves, is a pure function of seed, batch and n (random.cuh): every warp computes it anew
// for its 32 rows, a lane a row.
// Grid: (⌈N / 32⌉, any); block: 256 threads; no shared memory. Warps walk over the pixels.
// Floor: N·H·W·C bytes read, four times that written. A lane's reads follow each other in its own image, so a sector is
// fetched once and served from the first-level cache; writes of a warp are contiguous.
// Partners: crates/tensor/src/op/gather_batch.rs, crates/tensor/src/cpu/gather_batch.rs, crates/cuda/src/launcher/gather_batch.rs.
#include "random.cuh"

struct Gather {
    u64 seed;
    u32 images;
    u32 height, width, channels;
    u32 batch;
    u32 shuffle;  // 0 or 1
    u32 shift;    // most pixels an image moves
    u32 mirror;   // 0 or 1
    float offset, factor;
};

struct Sample {
    u32 image;
    int down, right;
    bool mirrored;
};

__device__ __forceinline__ Sample sample(const Gather &g, u32 step, u32 n) {
    u64 position = u64(step) * g.batch + n;
    u32 image = g.shuffle ? permute(g.seed, u32(position / g.images), u32(position % g.images), g.images)
                          : u32(min(position, u64(g.images - 1)));
    if (g.shift == 0 && g.mirror == 0) return {image, 0, 0, false};
    uint4 random = philox(g.seed, make_uint4(step, n, 0, STREAM_AUGMENTATION));
    u32 places = 2 * g.shift + 1;
    return {image, int(random.x % places) - int(g.shift), int(random.y % places) - int(g.shift),
            g.mirror != 0 && (random.z & 1) == 1};
}

extern "C" __global__ void __launch_bounds__(256)
gather_batch(const u8 *__restrict__ images, const u8 *__restrict__ labels, const u32 *__restrict__ counter,
             float *__restrict__ x, u32 *__restrict__ out, u32 *__restrict__ count, Gather g) {
    u32 n = blockIdx.x * WARP + threadIdx.x % WARP;
    u32 warp = threadIdx.x / WARP, warps = blockDim.x / WARP;
    if (n >= g.batch) return;
    u32 step = counter[0];
    Sample s = sample(g, step, n);
    if (warp == 0 && blockIdx.y == 0) {
        out[n] = labels[s.image];
        u64 first = u64(step) * g.batch;
        u64 left = first < g.images ? g.images - first : 0;
        if (n == 0) count[0] = g.shuffle ? g.batch : u32(min(left, u64(g.batch)));
    }
    const u8 *image = images + u64(s.image) * g.height * g.width * g.channels;
    for (u32 pixel = blockIdx.y * warps + warp; pixel < g.height * g.width; pixel += gridDim.y * warps) {
        int row = int(pixel / g.width) - s.down, column = int(pixel % g.width) - s.right;
        bool inside = row >= 0 && row < int(g.height) && column >= 0 && column < int(g.width);
        u32 source = u32(row) * g.width + (s.mirrored ? g.width - 1 - u32(column) : u32(column));
        for (u32 c = 0; c < g.channels; ++c) {
            float byte = inside ? float(image[source * g.channels + c]) : 0.0f;
            x[(u64(pixel) * g.batch + n) * g.channels + c] = (byte - g.offset) * g.factor;
        }
    }
}
