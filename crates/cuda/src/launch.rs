//! Launches: what a typed launcher builds, and the memory it builds them from.

use crate::driver::{Access, Argument, Extent, TensorMap};
use bytemuck::NoUninit;
use sphereface_tensor::{DType, Type};

/// A range of device memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Slice {
    pub(crate) pointer: u64,
    pub(crate) bytes: u64,
}

impl Slice {
    /// `bytes` from `offset` on; no bytes are the null pointer, which kernels take for an operand that is absent.
    pub(crate) fn part(self, offset: u64, bytes: u64) -> Slice {
        debug_assert!(offset + bytes <= self.bytes, "a part inside of its range");
        if bytes == 0 {
            return Slice::default();
        }
        Slice { pointer: self.pointer + offset, bytes }
    }
}

/// Memory of a step's operands.
pub(crate) struct Io {
    pub(crate) reads: Vec<Slice>,
    pub(crate) writes: Vec<Slice>,
    pub(crate) updates: Vec<Slice>,
    /// Scratch memory of the size that the launcher asked for; undefined when the step begins.
    pub(crate) workspace: Slice,
    /// Where the launches leave the parts of each of the kernel's sums.
    pub(crate) parts: Vec<Slice>,
    /// What the step leaves to a later one, or what was left to it and it takes; else nothing.
    pub(crate) left: Slice,
    /// Tables of the launcher, read only.
    pub(crate) constants: Slice,
}

/// Types of a step's operands.
pub(crate) struct Operands<'a> {
    pub(crate) reads: Vec<&'a Type>,
    pub(crate) writes: Vec<&'a Type>,
    pub(crate) updates: Vec<&'a Type>,
    /// Bytes that were left to the step, see [`Left`].
    pub(crate) left: u64,
}

/// Launches of a step for the places that its memory has.
type Build = Box<dyn Fn(&Io) -> Vec<Launch>>;

/// A result that the launches of a step leave in parts, `[parts, columns]` f32: the backend adds them up, with those of
/// other steps, before the result is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PartSum {
    pub(crate) parts: usize,
    /// Elements of the result.
    pub(crate) columns: usize,
    /// Which of the step's written operands it is.
    pub(crate) write: usize,
}

impl PartSum {
    pub(crate) fn bytes(&self) -> u64 {
        4 * (self.parts * self.columns) as u64
    }
}

/// Memory beside the results that the launches of a step leave to a later step of the plan, which reads one of these and
/// would make the same again. Where there is no such step, it goes with the workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) bytes: u64,
    /// Which of the step's written operands a step reads that may take it.
    pub(crate) write: usize,
}

/// A step made ready: its workspace, and its launches once memory has its place.
pub(crate) struct Kernel {
    pub(crate) workspace_bytes: u64,
    pub(crate) sums: Vec<PartSum>,
    pub(crate) leaves: Option<Left>,
    /// Whether it takes what was left to it.
    pub(crate) takes: bool,
    /// Tables that the launches read.
    pub(crate) constants: Vec<u8>,
    pub(crate) build: Build,
}

impl Kernel {
    pub(crate) fn new(workspace_bytes: u64, build: impl Fn(&Io) -> Vec<Launch> + 'static) -> Self {
        Kernel {
            workspace_bytes,
            sums: Vec::new(),
            leaves: None,
            takes: false,
            constants: Vec::new(),
            build: Box::new(build),
        }
    }

    /// The same, which leaves some results in parts.
    pub(crate) fn with_sums(self, sums: impl IntoIterator<Item = PartSum>) -> Self {
        Kernel { sums: sums.into_iter().collect(), ..self }
    }

    /// The same, which leaves memory to a later step, if there is any.
    pub(crate) fn leaving(self, left: Left) -> Self {
        Kernel { leaves: Some(left), ..self }
    }

    /// The same, which may take what was left to it.
    pub(crate) fn taking(self, takes: bool) -> Self {
        Kernel { takes, ..self }
    }

    /// The same with tables, which are uploaded once.
    pub(crate) fn with_constants(self, constants: &[u8]) -> Self {
        Kernel { constants: constants.to_vec(), ..self }
    }
}

/// A file of kernels with what is defined when it is compiled.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Unit {
    /// The file without `.cu`.
    pub stem: &'static str,
    /// `NAME` or `NAME=value`.
    pub defines: Vec<String>,
}

/// What a file of products is compiled with for one of its tiers; without, it has the kernels that both use. A run
/// compiles, and waits for, only those of the tier it takes.
pub(crate) const TIERS: [&str; 3] = ["TIER_SIMT", "TIER_MMA", "TIER_WGMMA"];

/// Every unit that launchers may ask for: a file that names tiers once for each of them and once without, and, where it names
/// `MARGIN_HEADER`, once without for each margin, and once for each tier and margin of tiles.
pub fn units() -> Vec<Unit> {
    let mut units = Vec::new();
    for file in sphereface_kernels::SOURCES {
        let stem = file.path.trim_end_matches(".cu");
        let tiers = TIERS.into_iter().filter(|tier| file.text.contains(tier));
        let tiers: Vec<Vec<String>> = std::iter::once(vec![]).chain(tiers.map(|tier| vec![tier.to_owned()])).collect();
        if !file.text.contains("MARGIN_HEADER") {
            units.extend(tiers.into_iter().map(|defines| Unit { stem, defines }));
            continue;
        }
        for &header in sphereface_kernels::HEADERS.iter().filter(|header| header.path.starts_with("margin/")) {
            let has_tiles = sphereface_kernels::margin_of_tiles(header) == header;
            let tiers = tiers.iter().filter(|tier| tier.is_empty() || has_tiles);
            units.extend(tiers.map(|tier| Unit { stem, defines: [&tier[..], &[with_margin(header)]].concat() }));
        }
    }
    units
}

/// What is defined in a unit of a margin.
pub(crate) fn with_margin(header: sphereface_kernels::File) -> String {
    format!("MARGIN_HEADER=\"{}\"", header.path)
}

/// One launch of one kernel.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Launch {
    pub(crate) unit: Unit,
    pub(crate) kernel: String,
    pub(crate) extent: Extent,
    pub(crate) arguments: Vec<Argument>,
}

impl Launch {
    /// One block of one thread of a kernel of `<stem>.cu`.
    pub(crate) fn new(stem: &'static str, kernel: impl Into<String>) -> Self {
        Launch {
            unit: Unit { stem, defines: Vec::new() },
            kernel: kernel.into(),
            extent: Extent { grid: [1; 3], block: [1; 3], shared_bytes: 0 },
            arguments: Vec::new(),
        }
    }

    pub(crate) fn define(mut self, define: String) -> Self {
        self.unit.defines.push(define);
        self
    }

    pub(crate) fn grid(mut self, grid: [u32; 3]) -> Self {
        self.extent.grid = grid;
        self
    }

    pub(crate) fn block(mut self, threads: u32) -> Self {
        self.extent.block = [threads, 1, 1];
        self
    }

    /// Dynamic shared memory.
    pub(crate) fn shared(mut self, bytes: u32) -> Self {
        self.extent.shared_bytes = bytes;
        self
    }

    fn memory(mut self, slice: Slice, access: Access) -> Self {
        self.arguments.push(Argument::Memory { pointer: slice.pointer, bytes: slice.bytes, access });
        self
    }

    pub(crate) fn read(self, slice: Slice) -> Self {
        self.memory(slice, Access::Read)
    }

    /// An operand that may be absent: a null pointer.
    pub(crate) fn read_if(self, slice: Option<Slice>) -> Self {
        self.memory(slice.unwrap_or_default(), Access::Read)
    }

    /// Memory that this launch writes whole, or reads only where it wrote before.
    pub(crate) fn write(self, slice: Slice) -> Self {
        self.memory(slice, Access::Write)
    }

    pub(crate) fn write_if(self, slice: Option<Slice>) -> Self {
        self.memory(slice.unwrap_or_default(), Access::Write)
    }

    pub(crate) fn update(self, slice: Slice) -> Self {
        self.memory(slice, Access::Update)
    }

    /// A tensor that is copied box by box through its map; without one, a map that the kernel does not look at.
    pub(crate) fn tensor(mut self, slice: Option<Slice>, access: Access, map: &TensorMap) -> Self {
        let Some(Slice { pointer, bytes }) = slice else { return self.value([0u8; 128]) };
        self.arguments.push(Argument::Tensor { pointer, bytes, access, map: map.clone() });
        self
    }

    /// A number or structure, as it lies in memory.
    pub(crate) fn value<T: NoUninit>(mut self, value: T) -> Self {
        self.arguments.push(Argument::Value(bytemuck::bytes_of(&value).to_vec()));
        self
    }
}

/// Ending of a kernel's name for an element type.
pub(crate) fn suffix(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 => "f32",
        DType::Bf16 => "bf16",
        DType::Cosine => "cosine",
        DType::U32 => "u32",
        DType::U8 => "u8",
    }
}

/// The most blocks of a grid in its second and third direction, on any GPU.
pub(crate) const MOST_BLOCKS_Y: u32 = 65_535;

/// Blocks of `threads` for one thread an item, at most `limit`: kernels walk on in strides of the grid.
pub(crate) fn blocks(items: usize, threads: u32, limit: u32) -> u32 {
    items.div_ceil(threads as usize).clamp(1, limit as usize) as u32
}
