//! Heads of many classes: tiles of products, chunks of classes.

use super::{Launcher, SLOPES_BYTES, WARPS, reads};
use crate::backend::{Options, Precision};
use crate::launch::{Io, Kernel, Launch, Slice};
use crate::launcher::Context;
use crate::launcher::matrix_product::Products;
use crate::launcher::tile::Scheme;
use sphereface_tensor::DType;
use sphereface_tensor::op::Layout;
use std::ops::Deref;

/// Bytes of `RowTerms`.
const TERMS_BYTES: u64 = 16;
/// Bytes of `Online`.
const ONLINE_BYTES: u64 = 16;
/// A tile of `kernels/margin_softmax_tile.cuh`.
const TILE_ROWS: usize = 128;
const TILE_CLASSES: usize = 64;
const TILE_THREADS: u32 = 128;
/// Classes are split until there are as many blocks: four for each processor of the largest GPUs. A constant, so that
/// every device sums in the same order.
const BLOCKS: usize = 528;
/// Gradients of products that exist at a time: 32 MiB, which the L2 cache of a large GPU holds.
const CHUNK_GRADIENTS: usize = 8 << 20;
/// The most classes of a chunk.
const CHUNK_CLASSES: usize = 8192;

/// How tiles of products are made.
struct HeadTile {
    /// As the kernels' names have it.
    name: &'static str,
    shared_bytes: u32,
    /// Whether on tensor cores.
    mma: bool,
    /// Warps that hold the same rows: softmaxes of a row that one block leaves.
    parts: usize,
}

/// `SimtTile` of `kernels/margin_softmax_tile.cuh`.
const SIMT: HeadTile = HeadTile { name: "f32", shared_bytes: 0, mma: false, parts: 1 };
/// `MmaTf32Tile`: three stages of 128 bytes for each row and class.
const MMA_TF32: HeadTile = HeadTile { name: "mma_tf32", shared_bytes: 3 * (128 + 64) * 128, mma: true, parts: 2 };

/// A launcher with the tiles it takes.
struct Large {
    launcher: Launcher,
    tile: HeadTile,
}

impl Deref for Large {
    type Target = Launcher;

    fn deref(&self) -> &Launcher {
        &self.launcher
    }
}

pub(super) fn forward(launcher: Launcher, context: &Context) -> Kernel {
    let launcher = Large::new(launcher, context);
    let splits = launcher.splits();
    let terms_bytes = TERMS_BYTES * launcher.batch() as u64;
    let parts = splits * launcher.tile.parts;
    let partial_bytes = ONLINE_BYTES * (launcher.batch() * parts) as u64;
    Kernel::new(terms_bytes + partial_bytes, move |io| {
        let terms = io.workspace.part(0, terms_bytes);
        let partial = io.workspace.part(terms_bytes, partial_bytes);
        let [loss, log_sum_exp, target_cosine, norm, inverse_norm, hits] = io.writes[..] else { return vec![] };
        let warps = launcher.batch() + launcher.classes();
        let rows = reads(launcher.launch("margin_softmax_forward_rows", warps.div_ceil(WARPS)), io)
            .write(terms)
            .write(inverse_norm)
            .value(launcher.head);
        let tiles = launcher
            .tiles("margin_softmax_forward_tiles", splits)
            .read(io.reads[0])
            .read(io.reads[1])
            .read(terms)
            .read(inverse_norm)
            .write(partial)
            .value(launcher.head);
        let merge = reads(launcher.launch("margin_softmax_forward_merge", launcher.batch().div_ceil(WARPS)), io)
            .read(partial)
            .write(loss)
            .write(log_sum_exp)
            .write(target_cosine)
            .write(norm)
            .write(hits)
            .value(launcher.head)
            .value(parts as u32);
        vec![rows, tiles, merge]
    })
}

pub(super) fn backward(launcher: Launcher, context: &Context) -> Kernel {
    let launcher = Large::new(launcher, context);
    let chunks = launcher.chunks(context);
    let most = |bytes: fn(&Chunk) -> u64| chunks.iter().map(bytes).max().unwrap_or(0).next_multiple_of(16);
    let slopes_bytes = SLOPES_BYTES * launcher.batch() as u64;
    let gradients_bytes = most(|chunk| (4 * chunk.by_row.products.rows * chunk.classes) as u64);
    let sums_bytes = most(|chunk| chunk.by_class.bytes());
    let parts_bytes = most(|chunk| chunk.by_row.bytes());
    Kernel::new(slopes_bytes + gradients_bytes + sums_bytes + parts_bytes, move |io| {
        let mut at = 0;
        let [slopes, gradients, sums, parts] = [slopes_bytes, gradients_bytes, sums_bytes, parts_bytes].map(|bytes| {
            at += bytes;
            io.workspace.part(at - bytes, bytes)
        });
        let rows = launcher.launch("margin_softmax_backward_rows", launcher.batch().div_ceil(WARPS));
        let rows = reads(rows, io).read(io.reads[6]).write(slopes);
        let mut launches = vec![rows.value(launcher.head)];
        for chunk in &chunks {
            launches.extend(launcher.backward_chunk(io, chunk, slopes, [gradients, sums, parts]));
        }
        launches
    })
}

/// A product whose parts, or whose whole when it has but one, are left for a kernel that adds them up.
struct Product {
    products: Products,
    scheme: Scheme,
}

impl Product {
    fn new(context: &Context, layout: Layout, [rows, columns, length]: [usize; 3]) -> Self {
        let products = Products { layout, rows, columns, length, segments: 1, batch: 1, own: [false; 2] };
        Product { products, scheme: products.scheme(context, DType::F32) }
    }

    fn bytes(&self) -> u64 {
        (4 * self.scheme.splits * self.products.rows * self.products.columns) as u64
    }

    fn launch(&self, kernel: &str, left: Slice, right: Slice, out: Slice) -> Launch {
        let whole = self.scheme.splits == 1;
        self.scheme
            .launch("gemm", kernel)
            .grid(self.products.grid(&self.scheme))
            .read(left)
            .read(right)
            .read_if(None)
            .read_if(None)
            .read_if(None)
            .write_if(whole.then_some(out))
            .write_if((!whole).then_some(out))
            .value(self.products.structure(&self.scheme))
    }
}

/// Classes whose products' gradients exist at a time in the backward pass.
struct Chunk {
    first: usize,
    classes: usize,
    /// Gradients, turned, times embeddings: for `d_weight`.
    by_class: Product,
    /// Gradients times weights: for `d_embedding`.
    by_row: Product,
}

impl Large {
    fn new(launcher: Launcher, context: &Context) -> Self {
        // Tensor cores take operands from where 16 bytes at a time were copied to.
        let mma = context.mma && context.options.precision != Precision::Fp32 && launcher.dimension().is_multiple_of(4);
        Large { launcher, tile: if mma { MMA_TF32 } else { SIMT } }
    }

    /// A launch over tiles of all rows.
    fn tiles(&self, kernel: &str, columns: usize) -> Launch {
        self.launch(&format!("{kernel}_{}", self.tile.name), columns)
            .grid([columns as u32, self.row_tiles() as u32, 1])
            .block(TILE_THREADS)
            .shared(self.tile.shared_bytes)
    }

    fn row_tiles(&self) -> usize {
        self.batch().div_ceil(TILE_ROWS)
    }

    /// Parts of the classes, each with a running softmax of its own in the forward pass.
    fn splits(&self) -> usize {
        self.classes().div_ceil(TILE_CLASSES).min(BLOCKS.div_ceil(self.row_tiles()))
    }

    /// The chunks of the backward pass. On tensor cores, whose copies are of four classes, those that are left over have a
    /// chunk of their own.
    fn chunks(&self, context: &Context) -> Vec<Chunk> {
        let longest = (CHUNK_GRADIENTS / self.batch()).clamp(1, CHUNK_CLASSES).next_multiple_of(TILE_CLASSES);
        let whole = if self.tile.mma { self.classes() / 4 * 4 } else { self.classes() };
        // Operands of the head are f32 whatever activations are.
        let precision = if self.tile.mma { Precision::Tf32 } else { Precision::Fp32 };
        let context = Context { options: Options { precision, ..context.options }, ..*context };
        let (mut chunks, mut first) = (Vec::new(), 0);
        while first < self.classes() {
            let end = if first < whole { whole.min(first + longest) } else { self.classes() };
            let (classes, batch, dimension) = (end - first, self.batch(), self.dimension());
            let by_class = Product::new(&context, Layout::TN, [classes, dimension, batch]);
            let by_row = Product::new(&context, Layout::NN, [batch, dimension, classes]);
            chunks.push(Chunk { first, classes, by_class, by_row });
            first = end;
        }
        chunks
    }

    /// What a chunk adds to `d_embedding`, and its part of `d_weight`.
    fn backward_chunk(&self, io: &Io, chunk: &Chunk, slopes: Slice, workspace: [Slice; 3]) -> [Launch; 5] {
        let &Chunk { first, classes, ref by_class, ref by_row } = chunk;
        let [gradients, sums, parts] = workspace;
        let gradients = gradients.part(0, (4 * self.batch() * classes) as u64);
        let (sums, parts) = (sums.part(0, by_class.bytes()), parts.part(0, by_row.bytes()));
        let row_bytes = 4 * self.dimension() as u64;
        let weight = io.reads[1].part(first as u64 * row_bytes, classes as u64 * row_bytes);

        let tiles = self.tiles("margin_softmax_backward_tiles", classes.div_ceil(TILE_CLASSES));
        let tiles = [0, 1, 2, 3, 6, 9]
            .into_iter()
            .fold(tiles, |launch, read| launch.read(io.reads[read]))
            .read(slopes)
            .write(gradients)
            .value(self.head)
            .value(first as u32)
            .value(classes as u32);
        let embedding = self
            .launch("margin_softmax_backward_embedding", self.batch().div_ceil(WARPS))
            .read(io.reads[0])
            .read(io.reads[3])
            .read(io.reads[8])
            .read(slopes)
            .read(parts);
        // The first chunk writes, the others add.
        let embedding = if first == 0 { embedding.write(io.writes[0]) } else { embedding.update(io.writes[0]) };
        [
            tiles,
            by_class.launch("gemm_tn", gradients, io.reads[0], sums),
            self.weight_gradient(io, slopes, sums, first, classes, by_class.scheme.splits),
            by_row.launch("gemm_nn", gradients, weight, parts),
            embedding
                .value(self.head)
                .value(by_row.scheme.splits as u32)
                .value(u32::from(first == 0))
                .value(u32::from(first + classes == self.classes())),
        ]
    }
}
