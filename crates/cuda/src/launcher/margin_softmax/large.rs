//! Heads of many classes, forward: tiles of products, and what both passes share.

use super::warpgroups;
use super::{Launcher, SLOPES_BYTES, WARPS};
use crate::launch::{Io, Kernel, Launch, Left, Slice, TIERS};
use crate::launcher::Context;
use crate::options::{Precision, Tier};
use sphereface_tensor::op::FEW_CLASSES;
use std::ops::{Deref, Range};

/// Bytes of `RowTerms`.
const TERMS_BYTES: u64 = 16;
/// Bytes of `Online`.
const ONLINE_BYTES: u64 = 16;
/// A tile of `kernels/margin_softmax_tile.cuh`.
const TILE_ROWS: usize = 128;
pub(super) const TILE_CLASSES: usize = 64;
const TILE_THREADS: u32 = 128;
/// The most elements of what exists of a chunk of classes at a time, so that the L2 cache of a large GPU holds it: 16 MiB
/// of directions or gradients in bf16, 32 MiB of gradients in f32.
const CHUNK_ELEMENTS: usize = 8 << 20;
/// The same by warpgroups: no launch would wait for memory if L2 held nothing between launches, so that fewer chunks win.
const CHUNK_ELEMENTS_WGMMA: usize = 16 << 20;
/// Classes of a chunk are a multiple of these, if another follows: whole tiles.
pub(super) const CHUNK_STEP: usize = 256;
/// The most classes of a chunk, and of one that leaves sums of the weights' gradients.
const CHUNK_CLASSES: usize = 16_384;
const CHUNK_CLASSES_WGMMA: usize = 32_768;
const CHUNK_CLASSES_OF_SUMS: usize = 8192;

/// How tiles of products are made.
pub(super) struct HeadTile {
    /// As the kernels' names have it.
    name: &'static str,
    shared_bytes: u32,
    /// Whether on tensor cores.
    pub(super) mma: bool,
    /// Warps that hold the same rows: softmaxes of a row that one block leaves.
    parts: usize,
    /// Classes are split until there are as many blocks: as the largest GPUs hold at a time, or twice as many. A constant,
    /// so that every device sums in the same order.
    blocks: usize,
}

/// `SimtTile` of `kernels/margin_softmax_tile.cuh`.
const SIMT_F32: HeadTile = HeadTile { name: "f32", shared_bytes: 0, mma: false, parts: 1, blocks: 2 * 2 * 132 };
const SIMT_BF16: HeadTile = HeadTile { name: "bf16", ..SIMT_F32 };
/// `TensorTile`: three stages of 128 bytes for each row and class.
const MMA_TF32: HeadTile =
    HeadTile { name: "mma_tf32", shared_bytes: 3 * (128 + 64) * 128, mma: true, parts: 2, blocks: 3 * 132 };
const MMA_BF16: HeadTile = HeadTile { name: "mma_bf16", ..MMA_TF32 };

/// A launcher with the tiles it takes.
pub(super) struct Large {
    launcher: Launcher,
    pub(super) tile: HeadTile,
}

impl Deref for Large {
    type Target = Launcher;

    fn deref(&self) -> &Launcher {
        &self.launcher
    }
}

pub(super) fn forward(launcher: Launcher, context: &Context) -> Kernel {
    let launcher = Large::new(launcher, context);
    let by_warpgroups = warpgroups::tiles(&launcher, context, CHUNK_STEP).is_some();
    let chunks = launcher.forward_chunks(by_warpgroups);
    let longest = chunks.iter().map(Range::len).max().unwrap_or(0);
    let splits = launcher.splits(longest);
    let terms_bytes = TERMS_BYTES * launcher.batch() as u64;
    let scheme = warpgroups::tiles(&launcher, context, longest);
    let parts = scheme.map_or(splits * launcher.tile.parts, |scheme| longest.div_ceil(scheme.tile.columns));
    let partial_bytes = ONLINE_BYTES * (launcher.batch() * parts) as u64;
    let energy_bytes = launcher.energy_bytes();
    // Those of one chunk need not be made again in the backward pass.
    let is_whole = chunks.len() == 1;
    let left_bytes = launcher.left_bytes(if is_whole { longest } else { 0 });
    let own_bytes = if is_whole { 0 } else { launcher.directions_bytes(longest) };
    let kernel = Kernel::new(terms_bytes + partial_bytes + own_bytes + energy_bytes, move |io| {
        let mut at = 0;
        let [energies, terms, partial, own] = [energy_bytes, terms_bytes, partial_bytes, own_bytes].map(|bytes| {
            at += bytes;
            io.workspace.part(at - bytes, bytes)
        });
        let [loss, log_sum_exp, target_cosine, norm, inverse_norm, hits, ref kept @ ..] = io.writes[..] else {
            return vec![];
        };
        let [slopes, rows, classes] = launcher.left(io.left);
        let directions = Directions { rows, classes: if is_whole { classes } else { own } };
        let rows = launcher.with_directions("margin_softmax_forward_rows", &directions, &chunks[0], |launch| {
            let launch = io.reads[..3].iter().fold(launch, |launch, &read| launch.read(read));
            launch.write(terms).write(inverse_norm.part(0, 4 * chunks[0].len() as u64))
        });
        let mut launches = vec![rows];
        for chunk in &chunks {
            let of_chunk = inverse_norm.part(4 * chunk.start as u64, 4 * chunk.len() as u64);
            if launcher.rounded() && chunk.start > 0 {
                launches.push(launcher.class_directions(io, chunk, directions.classes, Some(of_chunk)));
            }
            let operands = launcher.operands(io, chunk, &directions);
            let results = Softmaxes { terms, partial, kept: kept.first().copied() };
            launches.push(match &scheme {
                Some(scheme) => launcher.forward_warpgroups(io, scheme, chunk, operands, &results, parts),
                None => launcher.forward_tiles(io, splits, chunk, operands, &results),
            });
        }
        let merge = launcher
            .reads(launcher.launch("margin_softmax_forward_merge", launcher.batch().div_ceil(WARPS)), io)
            .read(partial)
            .write(loss)
            .write(log_sum_exp)
            .write(target_cosine)
            .write(norm)
            .write(hits)
            .write(slopes)
            .value(launcher.head)
            .value(parts as u32);
        launches.push(merge);
        launches.extend(launcher.energy(io, energies));
        launches
    });
    kernel.leaving(Left { bytes: left_bytes, write: 4 })
}

/// What the tiles of the forward pass read of rows, and what they write of them.
pub(super) struct Softmaxes {
    pub(super) terms: Slice,
    pub(super) partial: Slice,
    pub(super) kept: Option<Slice>,
}

/// Where directions are, of rows and of a chunk of classes at a time.
pub(super) struct Directions {
    pub(super) rows: Slice,
    pub(super) classes: Slice,
}

/// The most classes of a chunk with rows of so many elements, which perhaps leaves sums of the weights' gradients.
pub(super) fn longest_chunk(row: usize, by_warpgroups: bool, leaves_sums: bool) -> usize {
    let (elements, classes) = match (by_warpgroups, leaves_sums) {
        (_, true) => (CHUNK_ELEMENTS, CHUNK_CLASSES_OF_SUMS),
        (true, false) => (CHUNK_ELEMENTS_WGMMA, CHUNK_CLASSES_WGMMA),
        (false, false) => (CHUNK_ELEMENTS, CHUNK_CLASSES),
    };
    (elements / row).clamp(1, classes).next_multiple_of(CHUNK_STEP)
}

impl Large {
    pub(super) fn new(launcher: Launcher, context: &Context) -> Self {
        // Tensor cores take operands from where 16 bytes at a time were copied to: rounded ones are padded to that.
        let tf32 = context.options.precision == Precision::Tf32
            && launcher.classes() > FEW_CLASSES
            && launcher.dimension().is_multiple_of(4);
        let tile = match (launcher.rounded(), context.mma) {
            (true, true) => MMA_BF16,
            (true, false) => SIMT_BF16,
            (false, true) if tf32 => MMA_TF32,
            (false, _) => SIMT_F32,
        };
        Large { launcher, tile }
    }

    /// The softmaxes of a chunk of classes, on from those of the chunks before.
    fn forward_tiles(
        &self,
        io: &Io,
        splits: usize,
        chunk: &Range<usize>,
        operands: [Slice; 2],
        results: &Softmaxes,
    ) -> Launch {
        let tiles = operands.into_iter().fold(self.tiles("margin_softmax_forward_tiles", splits), Launch::read);
        let tiles = tiles.read(results.terms).read(io.writes[4]).read_if(self.bias(io));
        // The first chunk writes, the others go on.
        let tiles = [Some(results.partial), results.kept].into_iter().fold(tiles, |launch, result| match result {
            Some(result) if chunk.start > 0 => launch.update(result),
            result => launch.write_if(result),
        });
        tiles.value(self.head).value(chunk.start as u32).value(chunk.len() as u32)
    }

    /// A launch over tiles of all rows.
    pub(super) fn tiles(&self, kernel: &str, columns: usize) -> Launch {
        let tier = if self.tile.mma { Tier::Mma } else { Tier::Simt };
        Launch::new("margin_softmax", format!("{kernel}_{}", self.tile.name))
            .define(TIERS[tier as usize].to_owned())
            .define(self.define_of_tiles.clone())
            .grid([columns as u32, self.row_tiles() as u32, 1])
            .block(TILE_THREADS)
            .shared(self.tile.shared_bytes)
    }

    fn row_tiles(&self) -> usize {
        self.batch().div_ceil(TILE_ROWS)
    }

    /// Parts of the classes of a chunk, each with a running softmax of its own in the forward pass.
    fn splits(&self, classes: usize) -> usize {
        classes.div_ceil(TILE_CLASSES).min(self.tile.blocks.div_ceil(self.row_tiles()))
    }

    /// Chunks of classes whose directions exist at a time; all classes, where products are of the weights as they are.
    fn forward_chunks(&self, by_warpgroups: bool) -> Vec<Range<usize>> {
        let longest = if self.rounded() { longest_chunk(self.pitch(), by_warpgroups, false) } else { self.classes() };
        let firsts = (0..self.classes()).step_by(longest);
        firsts.map(|first| first..self.classes().min(first + longest)).collect()
    }

    /// Bytes of the directions of so many vectors, if there are any.
    pub(super) fn directions_bytes(&self, vectors: usize) -> u64 {
        if self.rounded() { (2 * self.lines(vectors) * self.pitch()) as u64 } else { 0 }
    }

    /// Bytes of what the forward pass leaves: slopes, directions of the rows, and perhaps those of so many classes.
    pub(super) fn left_bytes(&self, classes: usize) -> u64 {
        SLOPES_BYTES * self.batch() as u64 + self.directions_bytes(self.batch()) + self.directions_bytes(classes)
    }

    /// Those three, in the memory where they were left.
    pub(super) fn left(&self, memory: Slice) -> [Slice; 3] {
        let mut rest = memory;
        let mut take = |bytes| {
            let taken = rest.part(0, bytes);
            rest = rest.part(bytes, rest.bytes - bytes);
            taken
        };
        let slopes = take(SLOPES_BYTES * self.batch() as u64);
        let rows = take(self.directions_bytes(self.batch()));
        [slopes, rows, rest]
    }

    /// A launch with a warp for each row, and each class of the first chunk: what it writes of rows, then their directions,
    /// if there are any.
    pub(super) fn with_directions(
        &self,
        kernel: &str,
        directions: &Directions,
        first: &Range<usize>,
        operands: impl FnOnce(Launch) -> Launch,
    ) -> Launch {
        let warps = self.lines(self.batch()) + self.lines(first.len());
        let given = |slice: Slice, count| self.rounded().then(|| slice.part(0, self.directions_bytes(count)));
        operands(self.launch(kernel, warps.div_ceil(WARPS)))
            .write_if(given(directions.rows, self.batch()))
            .write_if(given(directions.classes, first.len()))
            .value(self.head)
            .value(first.len() as u32)
    }

    /// The launch that makes directions of the weights of a chunk of classes.
    pub(super) fn class_directions(
        &self,
        io: &Io,
        chunk: &Range<usize>,
        directions: Slice,
        inverse_norm: Option<Slice>,
    ) -> Launch {
        self.launch("margin_softmax_directions", chunk.len().div_ceil(WARPS))
            .read(self.weights(io, chunk))
            .write_if(inverse_norm)
            .write(directions.part(0, self.directions_bytes(chunk.len())))
            .value(self.head)
            .value(chunk.len() as u32)
    }

    /// Embeddings, and the weights of a chunk of classes, as products take them.
    pub(super) fn operands(&self, io: &Io, chunk: &Range<usize>, directions: &Directions) -> [Slice; 2] {
        if self.rounded() {
            [directions.rows, directions.classes.part(0, self.directions_bytes(chunk.len()))]
        } else {
            [io.reads[0], self.weights(io, chunk)]
        }
    }

    fn weights(&self, io: &Io, chunk: &Range<usize>) -> Slice {
        let row_bytes = 4 * self.dimension() as u64;
        io.reads[1].part(chunk.start as u64 * row_bytes, chunk.len() as u64 * row_bytes)
    }
}
