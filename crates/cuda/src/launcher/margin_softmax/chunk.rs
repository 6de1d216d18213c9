//! Heads of many classes, backward: a chunk of classes at a time.

use super::large::{CHUNK_STEP, Directions, Large, TILE_CLASSES, longest_chunk};
use super::warpgroups::{self, Added, Backward};
use super::{Launcher, THREADS};
use crate::launch::{Io, Kernel, Launch, Slice, blocks};
use crate::launcher::Context;
use crate::launcher::matrix_product::Products;
use crate::launcher::tile::Scheme;
use crate::options::{Options, Precision};
use sphereface_tensor::DType;
use sphereface_tensor::op::Layout;
use std::ops::Range;

/// Threads of a block that adds up a row of `d_embedding`.
const EMBEDDING_THREADS: u32 = 128;
/// The most blocks that walk over kept cosines.
const KEPT_BLOCKS: u32 = 8 * 132;

/// A product whose parts, or whose whole when it has but one, are left for a kernel that adds them up.
struct Product {
    products: Products,
    scheme: Scheme,
}

impl Product {
    fn new(context: &Context, dtype: DType, layout: Layout, [rows, columns, length]: [usize; 3]) -> Self {
        let products = Products { layout, rows, columns, length, segments: 1, batch: 1, own: [false; 2] };
        Product { products, scheme: products.scheme(context, dtype) }
    }

    fn bytes(&self) -> u64 {
        (4 * self.scheme.splits * self.products.rows * self.products.columns) as u64
    }

    fn launch(&self, kernel: &str, left: Slice, right: Slice, out: Slice) -> Launch {
        self.products
            .launch(&self.scheme, "gemm", kernel, [left, right])
            .read_if(None)
            .read_if(None)
            .read_if(None)
            .write_if(None)
            .write(out)
            .value(self.products.structure(&self.scheme))
    }
}

/// Classes whose products' gradients exist at a time.
struct Chunk {
    classes: Range<usize>,
    /// Gradients, turned, times embeddings: for `d_weight`.
    by_class: ByClass,
    /// Gradients times weights: for `d_embedding`.
    by_row: ByRow,
}

/// How `d_embedding` comes of the chunks' gradients.
enum ByRow {
    /// By warpgroups, which add a chunk's parts to those of the chunks before: another kernel adds up the parts in the end.
    Added(Added),
    /// By a product, whose parts another kernel adds up for each chunk.
    Sums(Product),
}

impl ByRow {
    fn splits(&self) -> usize {
        match self {
            ByRow::Added(added) => added.splits,
            ByRow::Sums(product) => product.scheme.splits,
        }
    }
}

/// How `d_weight` comes of a chunk's gradients.
enum ByClass {
    /// By warpgroups, which finish it where its sums are.
    Finished(Backward),
    /// By a product, whose sums another kernel finishes.
    Sums(Product),
}

/// Workspace of the pass.
struct Workspace {
    slopes: Slice,
    gradients: Slice,
    sums: Slice,
    parts: Slice,
    directions: Directions,
    /// Whether the forward pass has left those of the rows, and those of all classes, not of a chunk's.
    has_rows: bool,
    has_classes: bool,
}

/// `left` are the bytes that the forward pass left, if it did.
pub(super) fn backward(launcher: Launcher, context: &Context, left: u64) -> Kernel {
    let launcher = Large::new(launcher, context);
    let chunks = launcher.backward_chunks(context);
    let most = |bytes: &dyn Fn(&Chunk) -> u64| chunks.iter().map(bytes).max().unwrap_or(0).next_multiple_of(16);
    let has_rows = left >= launcher.left_bytes(0);
    let has_classes = left == launcher.left_bytes(launcher.classes());
    let unless = |has: bool, bytes: u64| if has { 0 } else { bytes };
    let longest = chunks.iter().map(|chunk| chunk.classes.len()).max().unwrap_or(0);
    let sizes = [
        unless(has_rows, launcher.left_bytes(0)),
        unless(has_classes, launcher.directions_bytes(longest)),
        most(&|chunk| launcher.gradients_bytes(chunk)),
        most(&|chunk| launcher.sums_bytes(chunk)),
        most(&|chunk| launcher.parts_bytes(chunk)),
    ];
    let kernel = Kernel::new(sizes.iter().sum(), move |io| {
        let mut at = 0;
        let [own_rows, own_classes, gradients, sums, parts] = sizes.map(|bytes| {
            at += bytes;
            io.workspace.part(at - bytes, bytes)
        });
        let [slopes, rows, classes] = launcher.left(if has_rows { io.left } else { own_rows });
        let directions = Directions { rows, classes: if has_classes { classes } else { own_classes } };
        let workspace = Workspace { slopes, gradients, sums, parts, directions, has_rows, has_classes };
        let mut launches = Vec::new();
        if !has_rows {
            let (directions, first) = (&workspace.directions, &chunks[0].classes);
            launches.push(launcher.with_directions("margin_softmax_backward_rows", directions, first, |launch| {
                launcher.reads(launch, io).read(io.reads[6]).write(slopes)
            }));
        }
        for chunk in &chunks {
            launches.extend(launcher.backward_chunk(io, chunk, &workspace));
        }
        launches.extend(launcher.last(io, slopes));
        launches
    });
    kernel.taking(has_rows)
}

impl Large {
    fn element(&self) -> DType {
        if self.rounded() { DType::Bf16 } else { DType::F32 }
    }

    fn gradients_bytes(&self, chunk: &Chunk) -> u64 {
        (self.element().bytes() * self.batch() * self.lines(chunk.classes.len())) as u64
    }

    /// Bytes of what is between a chunk's gradients and those of its weights.
    fn sums_bytes(&self, chunk: &Chunk) -> u64 {
        match &chunk.by_class {
            ByClass::Finished(backward) => backward.along_bytes(self, chunk.classes.len()),
            ByClass::Sums(product) => product.bytes(),
        }
    }

    /// Bytes of the parts of a chunk's sums for `d_embedding`.
    fn parts_bytes(&self, chunk: &Chunk) -> u64 {
        (4 * chunk.by_row.splits() * self.batch() * self.pitch()) as u64
    }

    /// The chunks of the pass. In TF32, whose copies are of four classes, those that are left over have a chunk of their
    /// own; rounded rows are padded.
    fn backward_chunks(&self, context: &Context) -> Vec<Chunk> {
        let widest = if self.rounded() { self.batch().max(self.pitch()) } else { self.batch() };
        let finishes = warpgroups::backward(self, context, CHUNK_STEP).is_some();
        let longest = longest_chunk(widest, finishes, !finishes);
        let tf32 = self.tile.mma && !self.rounded();
        let whole = if tf32 { self.classes() / 4 * 4 } else { self.classes() };
        // A head of few classes, and one whose rows no copies fill, is fp32 in every precision.
        let precision = if tf32 { Precision::Tf32 } else { Precision::Fp32 };
        let context = Context { options: Options { precision, ..context.options }, ..*context };
        let added = warpgroups::added(self, &context, longest.min(self.classes()));
        let (mut chunks, mut first) = (Vec::new(), 0);
        while first < self.classes() {
            let end = if first < whole { whole.min(first + longest) } else { self.classes() };
            let (lines, batch, pitch) = (self.lines(end - first), self.batch(), self.pitch());
            let by_class = match warpgroups::backward(self, &context, end - first) {
                Some(backward) => ByClass::Finished(backward),
                None => ByClass::Sums(Product::new(&context, self.element(), Layout::TN, [lines, pitch, batch])),
            };
            let by_row = match added {
                Some(added) => ByRow::Added(added),
                None => ByRow::Sums(Product::new(&context, self.element(), Layout::NN, [batch, pitch, lines])),
            };
            chunks.push(Chunk { classes: first..end, by_class, by_row });
            first = end;
        }
        chunks
    }

    /// What a chunk adds to `d_embedding`, and its part of `d_weight`.
    fn backward_chunk(&self, io: &Io, chunk: &Chunk, workspace: &Workspace) -> Vec<Launch> {
        let Chunk { classes, by_class, by_row } = chunk;
        let slopes = workspace.slopes;
        let gradients = workspace.gradients.part(0, self.gradients_bytes(chunk));
        let sums = workspace.sums.part(0, self.sums_bytes(chunk));
        let parts = workspace.parts.part(0, self.parts_bytes(chunk));
        let Directions { rows, classes: of_classes } = workspace.directions;
        let skipped = if workspace.has_classes { self.directions_bytes(classes.start) } else { 0 };
        let directions = Directions { rows, classes: of_classes.part(skipped, of_classes.bytes - skipped) };
        let [rows, weights] = self.operands(io, classes, &directions);
        let mut launches = Vec::new();
        // The launch over the rows, if there is one, makes those of the first chunk.
        if self.rounded() && !workspace.has_classes && (workspace.has_rows || classes.start > 0) {
            launches.push(self.class_directions(io, classes, directions.classes, None));
        }
        match by_class {
            ByClass::Finished(backward) => {
                let made = [gradients, sums];
                launches.push(self.backward_warpgroups(io, backward, classes, [rows, weights], slopes, made));
                launches.push(self.weight_warpgroups(io, backward, classes, rows, made));
            }
            ByClass::Sums(product) => {
                launches.push(self.gradients(io, chunk, [rows, weights], slopes, gradients));
                launches.push(product.launch("gemm_tn", gradients, rows, sums));
                let parts = product.scheme.splits;
                launches.push(self.weight_gradient(io, slopes, sums, classes.start, classes.len(), parts));
            }
        }
        let (is_first, is_last) = (classes.start == 0, classes.end == self.classes());
        match by_row {
            ByRow::Added(added) => {
                launches.push(self.added_warpgroups(added, classes, [gradients, weights], parts));
                if is_last {
                    launches.push(self.embedding(io, slopes, parts, by_row.splits(), [true, true]));
                }
            }
            ByRow::Sums(product) => {
                launches.push(product.launch("gemm_nn", gradients, weights, parts));
                launches.push(self.embedding(io, slopes, parts, by_row.splits(), [is_first, is_last]));
            }
        }
        launches
    }

    /// Adds up parts of `d_embedding`. The first such launch writes, the others add.
    fn embedding(&self, io: &Io, slopes: Slice, parts: Slice, splits: usize, [is_first, is_last]: [bool; 2]) -> Launch {
        let embedding = self
            .launch("margin_softmax_backward_embedding", self.batch())
            .block(EMBEDDING_THREADS)
            .read(io.reads[0])
            .read(io.reads[1])
            .read(io.reads[2])
            .read(io.reads[3])
            .read(io.reads[8])
            .read(io.reads[9])
            .read(slopes)
            .read(parts);
        let embedding = if is_first { embedding.write(io.writes[0]) } else { embedding.update(io.writes[0]) };
        embedding.value(self.head).value(splits as u32).value(u32::from(is_first)).value(u32::from(is_last))
    }

    /// The gradients of a chunk's products, from tiles of them or from the cosines that the forward pass kept.
    fn gradients(&self, io: &Io, chunk: &Chunk, operands: [Slice; 2], slopes: Slice, gradients: Slice) -> Launch {
        let classes = &chunk.classes;
        let add =
            |launch: Launch, reads: &[usize]| reads.iter().fold(launch, |launch, &read| launch.read(io.reads[read]));
        let launch = if self.kept {
            let groups = self.batch() * self.lines(classes.len()).div_ceil(4);
            let kernel = format!("margin_softmax_backward_kept_{}", self.element());
            let launch = self.launch(&kernel, blocks(groups, THREADS, KEPT_BLOCKS) as usize);
            add(launch, &[2, 3, 6, 8, 9]).read(slopes).read(io.reads[10])
        } else {
            let launch = self.tiles("margin_softmax_backward_tiles", classes.len().div_ceil(TILE_CLASSES));
            let launch = operands.into_iter().fold(launch, Launch::read);
            add(launch, &[2, 3, 6, 8, 9]).read_if(self.bias(io)).read(slopes)
        };
        launch.write(gradients).value(self.head).value(classes.start as u32).value(classes.len() as u32)
    }
}
