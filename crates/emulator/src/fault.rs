//! What can be wrong with a module, a launch or a kernel: one line each.

use std::error::Error;
use std::fmt;

/// A text that could not be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoadError {
    /// PTX that this crate does not know. It is never guessed at.
    Unsupported {
        /// Line in the text, from 1.
        line: u32,
        /// The directive, instruction or modifier.
        what: String,
    },
    /// A text that is not PTX.
    Malformed {
        /// Line in the text, from 1.
        line: u32,
        /// What was expected and what was found.
        what: String,
    },
}

impl fmt::Display for LoadError {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadError::Unsupported { line, what } => write!(to, "PTX line {line}: {what} is not supported"),
            LoadError::Malformed { line, what } => write!(to, "PTX line {line}: {what}"),
        }
    }
}

impl Error for LoadError {}

/// A launch that did not end well: what happened, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What happened.
    pub kind: FaultKind,
    /// Where it happened, if a kernel was running.
    pub site: Option<Box<Site>>,
}

/// A place in a running kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// The kernel's name.
    pub kernel: String,
    /// The block's index.
    pub block: [u32; 3],
    /// The thread's index in its block.
    pub thread: [u32; 3],
    /// The instruction with its modifiers.
    pub instruction: String,
    /// Line in the PTX text.
    pub line: u32,
    /// File and line of the source, and of where that was inlined, if the text has them.
    pub sources: Vec<(String, u32)>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultKind {
    /// The launch asks for a kernel that the module does not have.
    NoKernel(String),
    /// Arguments that do not fit the parameters.
    Arguments(String),
    /// A grid or block of an impossible size.
    Shape(String),
    /// More shared memory than a block of this architecture may have.
    SharedTooLarge {
        /// Bytes asked for, static and dynamic.
        bytes: u64,
        /// The most bytes.
        limit: u64,
        /// The architecture's number: 80 for `sm_80`.
        target: u32,
    },
    /// More than 48 KB of shared memory without the function attribute that allows it.
    SharedNeedsAttribute {
        /// Bytes asked for, static and dynamic.
        bytes: u64,
    },
    /// An access to global memory outside of every allocation.
    OutOfBounds {
        /// `read` or `write`.
        access: &'static str,
        /// The address.
        address: u64,
        /// Its size.
        bytes: u32,
        /// The nearest allocation below, and how far behind its begin the address lies.
        nearest: Option<(u64, u64, u64)>,
    },
    /// An access to shared memory behind its end.
    SharedOutOfBounds {
        /// `read` or `write`.
        access: &'static str,
        /// The offset in the block's shared memory.
        offset: u64,
        /// Its size.
        bytes: u32,
        /// The block's shared memory.
        size: u64,
    },
    /// An access to local memory, parameters or constants outside of them.
    OtherOutOfBounds {
        /// The memory's name.
        space: &'static str,
        /// The offset.
        offset: u64,
        /// The memory's size.
        size: u64,
    },
    /// An access to global memory outside of the ranges that the launch declared.
    Undeclared {
        /// `read` or `write`.
        access: &'static str,
        /// The address.
        address: u64,
        /// Its size.
        bytes: u32,
    },
    /// An access to global memory by a thread that has not executed `griddepcontrol.wait`, in a kernel that may begin
    /// before the launch before it has ended.
    NotAwaited {
        /// The address.
        address: u64,
    },
    /// A write to constant memory or to a range declared as read only.
    ReadOnly {
        /// The address.
        address: u64,
    },
    /// A read of global memory that nobody has written.
    Uninitialised {
        /// The address.
        address: u64,
    },
    /// A read of shared memory that no thread of the block has written.
    SharedUninitialised {
        /// The offset in the block's shared memory.
        offset: u64,
    },
    /// An address that is no multiple of the access's size.
    Misaligned {
        /// The address.
        address: u64,
        /// The size.
        bytes: u32,
    },
    /// Two threads touch a word of shared memory without a barrier between them, and one of them writes.
    SharedRace {
        /// The offset in the block's shared memory.
        offset: u64,
        /// The earlier access and this one: `write after read` and so on.
        order: &'static str,
        /// The linear index of the other thread, if it is known.
        other: Option<u32>,
    },
    /// Two threads write different values to a word of global memory in one launch, without order.
    GlobalRace {
        /// The address.
        address: u64,
        /// The linear index of the other thread's block.
        other_block: u32,
        /// The linear index of the other thread in its block.
        other_thread: u32,
    },
    /// Access to a word of shared memory that an asynchronous copy may still be writing.
    AsyncCopyPending {
        /// The offset in the block's shared memory.
        offset: u64,
    },
    /// Access to a word of shared memory into which a bulk copy goes that nobody here has waited for.
    BulkLoadPending {
        /// The offset in the block's shared memory.
        offset: u64,
        /// The offset of the transaction barrier on which the copy completes.
        barrier: u64,
    },
    /// A write to a word of shared memory from which a bulk copy may still read.
    BulkStorePending {
        /// The offset in the block's shared memory.
        offset: u64,
        /// The number of the warp that started the copy.
        warp: u32,
    },
    /// A write to a word of shared memory that an asynchronous product may still read.
    ProductPending {
        /// The offset in the block's shared memory.
        offset: u64,
        /// The number of the warpgroup.
        group: u32,
    },
    /// An asynchronous unit touches a word that a thread wrote, and no `fence.proxy.async` lies between.
    ProxyFence {
        /// The offset in the block's shared memory.
        offset: u64,
        /// The linear index of the writer, if it is known.
        writer: Option<u32>,
    },
    /// Shared memory is read with another swizzle than a tensor copy wrote it.
    Swizzle {
        /// The offset in the block's shared memory.
        offset: u64,
        /// Bytes that each swizzle spans: of the write and of this read; 16 is none.
        spans: [u64; 2],
    },
    /// A transaction barrier used wrongly.
    Mbarrier(String),
    /// A bulk copy that cannot be.
    BulkCopy(String),
    /// A matrix descriptor that cannot be.
    Descriptor(String),
    /// Access to a register that an asynchronous product under way reads or writes.
    OperandPending,
    /// A product whose registers were touched, or that is the first, without `wgmma.fence`.
    MissingProductFence,
    /// The warps of a warpgroup do not do the same.
    Warpgroup(String),
    /// Something done to another block of the cluster that cannot be.
    Cluster(String),
    /// `setmaxnreg` asks for what cannot be.
    Registers(String),
    /// Lanes of one warp that do not arrive at a barrier together.
    DivergentBarrier(String),
    /// A barrier whose number or count is impossible, or differs between warps.
    BarrierMismatch(String),
    /// An exchange between lanes reads from, or waits for, a lane that does not take part.
    InactiveLane {
        /// The lane.
        lane: u32,
        /// Whether it has ended.
        exited: bool,
    },
    /// A lane executes an exchange whose mask leaves it out.
    NotAMember {
        /// The mask.
        members: u32,
    },
    /// Nothing moves any more. What warps wait for.
    Deadlock(Vec<String>),
    /// A warp runs on and on.
    Endless {
        /// Instructions it has executed.
        instructions: u64,
    },
    /// The kernel executed `trap`.
    Trap,
    /// An index outside of its table of branch targets.
    BranchIndex(u32),
}

impl fmt::Display for FaultKind {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FaultKind::NoKernel(name) => write!(to, "the module has no kernel `{name}`"),
            FaultKind::Arguments(what) | FaultKind::Shape(what) => write!(to, "{what}"),
            FaultKind::SharedTooLarge { bytes, limit, target } => {
                write!(to, "{bytes} bytes of shared memory, but a block has at most {limit} on sm_{target}")
            }
            FaultKind::SharedNeedsAttribute { bytes } => {
                write!(to, "{bytes} bytes of shared memory: more than 49152 need the kernel's attribute")
            }
            FaultKind::OutOfBounds { access, address, bytes, nearest: None } => {
                write!(to, "{access} of {bytes} bytes at {address:#x}, below every allocation")
            }
            FaultKind::OutOfBounds { access, address, bytes, nearest: Some((base, offset, size)) } => write!(
                to,
                "{access} of {bytes} bytes at {address:#x}, which is offset {offset} of the allocation of {size} bytes at {base:#x}"
            ),
            FaultKind::SharedOutOfBounds { access, offset, bytes, size } => {
                write!(to, "{access} of {bytes} bytes at offset {offset} of {size} bytes of shared memory")
            }
            FaultKind::OtherOutOfBounds { space, offset, size } => {
                write!(to, "access at offset {offset} of {size} bytes of {space} memory")
            }
            FaultKind::Undeclared { access, address, bytes } => {
                write!(to, "{access} of {bytes} bytes at {address:#x}, outside of the ranges that the launch declared")
            }
            FaultKind::NotAwaited { address } => write!(
                to,
                "global memory is touched at {address:#x} before griddepcontrol.wait: the launch before may not have ended"
            ),
            FaultKind::ReadOnly { address } => write!(to, "write to read-only memory at {address:#x}"),
            FaultKind::Uninitialised { address } => write!(to, "read of uninitialised global memory at {address:#x}"),
            FaultKind::SharedUninitialised { offset } => {
                write!(to, "read of uninitialised shared memory at offset {offset}")
            }
            FaultKind::Misaligned { address, bytes } => {
                write!(to, "address {address:#x} is no multiple of the access's {bytes} bytes")
            }
            FaultKind::SharedRace { offset, order, other } => {
                write!(to, "race on shared memory at offset {offset}: {order} ")?;
                match other {
                    Some(thread) => write!(to, "of thread {thread}"),
                    None => write!(to, "of several threads"),
                }?;
                write!(to, " without a barrier between them")
            }
            FaultKind::GlobalRace { address, other_block, other_thread } => write!(
                to,
                "another value written at {address:#x} than thread {other_thread} of block {other_block} wrote, without order"
            ),
            FaultKind::AsyncCopyPending { offset } => {
                write!(
                    to,
                    "shared memory at offset {offset} is the target of an asynchronous copy that nobody waited for"
                )
            }
            FaultKind::BulkLoadPending { offset, barrier } => write!(
                to,
                "shared memory at offset {offset} is the target of a bulk copy that nobody waited for on the mbarrier at offset {barrier}"
            ),
            FaultKind::BulkStorePending { offset, warp } => write!(
                to,
                "shared memory at offset {offset} may still be read by a bulk copy that warp {warp} has not waited for"
            ),
            FaultKind::ProductPending { offset, group } => write!(
                to,
                "shared memory at offset {offset} may still be read by a wgmma of warpgroup {group} that nobody waited for"
            ),
            FaultKind::ProxyFence { offset, writer } => {
                write!(to, "an asynchronous access at offset {offset} of shared memory, which ")?;
                match writer {
                    Some(thread) => write!(to, "thread {thread} wrote"),
                    None => write!(to, "threads wrote"),
                }?;
                write!(to, " without a fence.proxy.async after it")
            }
            FaultKind::Swizzle { offset, spans: [written, read] } => {
                let name = |span: &u64| if *span == 16 { "no".to_owned() } else { format!("the {span}-byte") };
                let (written, read) = (name(written), name(read));
                write!(
                    to,
                    "shared memory at offset {offset} was copied with {written} swizzle and is read with {read} one"
                )
            }
            FaultKind::Mbarrier(what) => write!(to, "mbarrier: {what}"),
            FaultKind::BulkCopy(what) => write!(to, "bulk copy: {what}"),
            FaultKind::Cluster(what)
            | FaultKind::Descriptor(what)
            | FaultKind::Warpgroup(what)
            | FaultKind::Registers(what) => {
                write!(to, "{what}")
            }
            FaultKind::OperandPending => {
                write!(to, "a register is touched that a wgmma under way uses; wgmma.wait_group comes first")
            }
            FaultKind::MissingProductFence => {
                write!(to, "registers of the wgmma were touched since the last wgmma.fence, or there was none")
            }
            FaultKind::DivergentBarrier(what) => write!(to, "divergent barrier: {what}"),
            FaultKind::BarrierMismatch(what) => write!(to, "barrier mismatch: {what}"),
            FaultKind::InactiveLane { lane, exited: true } => {
                write!(to, "an exchange needs lane {lane}, which has exited")
            }
            FaultKind::InactiveLane { lane, exited: false } => {
                write!(to, "an exchange needs lane {lane}, which does not take part")
            }
            FaultKind::NotAMember { members } => {
                write!(to, "the lane executes an exchange whose mask {members:#010x} leaves it out")
            }
            FaultKind::Deadlock(warps) => write!(to, "deadlock: {}", warps.join("; ")),
            FaultKind::Endless { instructions } => write!(to, "no end after {instructions} instructions of one warp"),
            FaultKind::Trap => write!(to, "the kernel executed a trap"),
            FaultKind::BranchIndex(index) => write!(to, "index {index} is outside of the table of branch targets"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{}", self.kind)?;
        let Some(site) = &self.site else {
            return Ok(());
        };
        let ([bx, by, bz], [tx, ty, tz]) = (site.block, site.thread);
        write!(
            to,
            " [kernel {}, block ({bx}, {by}, {bz}), thread ({tx}, {ty}, {tz}), PTX line {}: {}",
            site.kernel, site.line, site.instruction
        )?;
        for (index, (file, line)) in site.sources.iter().enumerate() {
            write!(to, "{}{file}:{line}", if index == 0 { ", " } else { " inlined at " })?;
        }
        write!(to, "]")
    }
}

impl Error for Fault {}

impl From<FaultKind> for Fault {
    fn from(kind: FaultKind) -> Self {
        Fault { kind, site: None }
    }
}
