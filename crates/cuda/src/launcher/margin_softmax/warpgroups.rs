//! Heads of many classes on Hopper: tiles of products of rounded directions by warpgroups.

use super::large::{Large, Softmaxes};
use crate::driver::{Access, Swizzle, TensorMap};
use crate::launch::{Io, Launch, Slice};
use crate::launcher::matrix_product::Products;
use crate::launcher::tile::Scheme;
use crate::launcher::{Context, wgmma};
use crate::options::Tier;
use sphereface_tensor::DType;
use sphereface_tensor::op::Layout;
use std::ops::Range;

/// Rows and columns that a warp stores at once.
const BOX: [u64; 2] = [64, 16];
/// Rows whose gradients one warpgroup sums along the columns.
const GROUP_ROWS: usize = 64;

/// The products of embeddings with so many classes.
fn products(launcher: &Large, classes: usize) -> Products {
    let [rows, length] = [launcher.batch(), launcher.pitch()];
    Products { layout: Layout::NT, rows, columns: classes, length, segments: 1, batch: 1, own: [false; 2] }
}

/// How warpgroups make the tiles of so many classes, if they do.
pub(super) fn tiles(launcher: &Large, context: &Context, classes: usize) -> Option<Scheme> {
    let scheme = || wgmma::whole(context, DType::Bf16, &products(launcher, classes));
    if launcher.rounded() { scheme() } else { None }
}

/// How the gradients of a chunk of classes and of their weights are made in one launch each.
pub(super) struct Backward {
    tiles: Scheme,
    weight: Scheme,
    /// Sums along the columns of the gradients.
    groups: usize,
}

/// The same of the backward pass over so many classes, unless cosines were kept, which have no tiles.
pub(super) fn backward(launcher: &Large, context: &Context, classes: usize) -> Option<Backward> {
    if launcher.kept {
        return None;
    }
    let by_class = by_class(launcher, classes);
    Some(Backward {
        tiles: tiles(launcher, context, classes)?,
        weight: wgmma::whole(context, DType::Bf16, &by_class)?,
        groups: launcher.batch().div_ceil(GROUP_ROWS),
    })
}

/// Gradients of so many classes, turned, times embeddings.
fn by_class(launcher: &Large, classes: usize) -> Products {
    let [rows, columns, length] = [launcher.lines(classes), launcher.pitch(), launcher.batch()];
    Products { layout: Layout::TN, rows, columns, length, segments: 1, batch: 1, own: [false; 2] }
}

/// How the gradients of chunks of classes times their directions are added up, in parts.
pub(super) type Added = Scheme;

/// Gradients of so many classes times directions.
fn by_row(launcher: &Large, classes: usize) -> Products {
    let [rows, columns, length] = [launcher.batch(), launcher.pitch(), launcher.lines(classes)];
    Products { layout: Layout::NN, rows, columns, length, segments: 1, batch: 1, own: [false; 2] }
}

/// The same of chunks of at most so many classes, if warpgroups are the best way.
pub(super) fn added(launcher: &Large, context: &Context, classes: usize) -> Option<Added> {
    let scheme = || by_row(launcher, classes).scheme(context, DType::Bf16);
    launcher.rounded().then(scheme).filter(|scheme| scheme.tier == Tier::Wgmma)
}

/// A matrix of 16-bit elements that warps store 16 rows of.
fn rows_map(element: DType, columns: usize, rows: usize) -> TensorMap {
    TensorMap {
        element,
        extents: vec![columns as u64, rows as u64],
        strides_bytes: vec![2 * columns as u64],
        box_extents: BOX.to_vec(),
        steps: vec![],
        swizzle: Swizzle::Bytes128,
    }
}

impl Backward {
    /// Bytes of what the gradients of so many classes give along the weights' directions.
    pub(super) fn along_bytes(&self, launcher: &Large, classes: usize) -> u64 {
        (4 * self.groups * launcher.lines(classes)) as u64
    }
}

impl Large {
    /// A launch of a kernel for this margin.
    fn warpgroups(&self, products: &Products, scheme: &Scheme, kernel: &str, operands: [Slice; 2]) -> Launch {
        let kernel = format!("margin_softmax_{kernel}");
        products.launch(scheme, "margin_softmax", &kernel, operands).define(self.define_of_tiles.clone())
    }

    /// The softmaxes of a chunk of classes, on from those of the chunks before.
    pub(super) fn forward_warpgroups(
        &self,
        io: &Io,
        scheme: &Scheme,
        chunk: &Range<usize>,
        operands: [Slice; 2],
        results: &Softmaxes,
        parts: usize,
    ) -> Launch {
        let products = products(self, chunk.len());
        let launch = self.warpgroups(&products, scheme, "forward_tiles", operands);
        let launch = launch.read(results.terms).read(io.writes[4]).read_if(self.bias(io));
        // The first chunk writes, the others go on.
        let (launch, access) = match chunk.start {
            0 => (launch.write(results.partial), Access::Write),
            _ => (launch.update(results.partial), Access::Update),
        };
        let kept = rows_map(DType::Cosine, self.lines(self.classes()), self.batch());
        launch
            .tensor(results.kept, access, &kept)
            .value(self.head)
            .value(chunk.start as u32)
            .value(parts as u32)
            .value(u32::from(results.kept.is_some()))
            .value(products.structure(scheme))
    }

    /// The gradients of a chunk's products, and what they give along the weights' directions.
    pub(super) fn backward_warpgroups(
        &self,
        io: &Io,
        backward: &Backward,
        chunk: &Range<usize>,
        operands: [Slice; 2],
        slopes: Slice,
        [gradients, along]: [Slice; 2],
    ) -> Launch {
        let products = products(self, chunk.len());
        let launch = self.warpgroups(&products, &backward.tiles, "backward_tiles", operands);
        [2, 3, 6, 8, 9]
            .into_iter()
            .fold(launch, |launch, read| launch.read(io.reads[read]))
            .read_if(self.bias(io))
            .read(slopes)
            .tensor(Some(gradients), Access::Write, &rows_map(DType::Bf16, self.lines(chunk.len()), self.batch()))
            .write(along)
            .value(self.head)
            .value(chunk.start as u32)
            .value(products.structure(&backward.tiles))
    }

    /// The gradients of a chunk's products times the classes' directions, added to the parts of the chunks before.
    pub(super) fn added_warpgroups(
        &self,
        added: &Added,
        chunk: &Range<usize>,
        operands: [Slice; 2],
        parts: Slice,
    ) -> Launch {
        let products = by_row(self, chunk.len());
        // A part of a short chunk has one line of the reduction at least.
        let splits = added.splits.min(products.length.div_ceil(wgmma::LINE_BYTES / DType::Bf16.bytes()));
        let scheme = Scheme { splits, ..*added };
        let launch = self.warpgroups(&products, &scheme, "backward_parts", operands);
        let launch = if chunk.start == 0 { launch.write(parts) } else { launch.update(parts) };
        launch.value(u32::from(chunk.start > 0)).value(products.structure(&scheme))
    }

    /// The gradient of a chunk's weights from those.
    pub(super) fn weight_warpgroups(
        &self,
        io: &Io,
        backward: &Backward,
        chunk: &Range<usize>,
        rows: Slice,
        [gradients, along]: [Slice; 2],
    ) -> Launch {
        let products = by_class(self, chunk.len());
        let part = |of: Slice, bytes: usize| of.part((chunk.start * bytes) as u64, (chunk.len() * bytes) as u64);
        // Lines that fill up the gradients are no classes.
        let structure = Products { rows: chunk.len(), ..products }.structure(&backward.weight);
        self.warpgroups(&products, &backward.weight, "backward_weight", [gradients, rows])
            .read(part(io.reads[1], 4 * self.dimension()))
            .read(part(io.reads[9], 4))
            .read(along)
            .write(part(io.writes[1], 4 * self.dimension()))
            .value(self.head)
            .value(backward.groups as u32)
            .value(structure)
    }
}
