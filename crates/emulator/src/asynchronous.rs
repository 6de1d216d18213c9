//! Decoded instructions of sm_90 that work beside the warps: transaction barriers, bulk copies, warpgroup products.

use crate::instruction::{Address, Operands, Row, Value, Values};

/// One of them.
#[derive(Clone, Debug)]
pub(crate) enum Asynchronous {
    Mbarrier {
        address: Address,
        what: Mbarrier,
    },
    /// `fence.proxy.async`: writes so far are visible to asynchronous units.
    ProxyFence,
    /// `fence.mbarrier_init`: barriers made so far are.
    BarrierFence,
    BulkLoad(BulkLoad),
    BulkStore(BulkStore),
    BulkCommit,
    /// Until at most `keep` of a thread's latest groups have not read their source.
    BulkWait {
        keep: u32,
    },
    Product(Product),
    ProductFence,
    ProductCommit,
    ProductWait {
        keep: u32,
    },
    /// `setmaxnreg`.
    Registers {
        count: u32,
        increase: bool,
    },
    /// `mapa`: where an offset of shared memory lies in the block with a rank.
    MapAddress {
        d: Row,
        a: Row,
        rank: Row,
    },
    /// `st.shared::cluster`: a store to any block of the cluster.
    StoreToBlock {
        values: Values,
        address: Address,
    },
    /// `barrier.cluster`, and whether it orders.
    ClusterArrive {
        release: bool,
    },
    ClusterWait {
        acquire: bool,
    },
    StoreMatrix {
        from: [Row; 4],
        count: u8,
        transpose: bool,
        address: Address,
    },
}

/// What is done with a transaction barrier.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mbarrier {
    Init { count: Row },
    Invalidate,
    Arrive { count: Option<Row>, bytes: Option<Row>, state: Value, release: bool },
    Expect { bytes: Row },
    Complete { bytes: Row },
    Wait { done: Row, phase: Phase, blocking: bool, acquire: bool },
}

/// Which phase is waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Phase {
    Parity(Row),
    /// What the arrival returned.
    State(Row),
}

/// The side of a bulk copy that lies in global memory.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    Linear {
        address: Address,
        bytes: Row,
    },
    /// A box of a tensor: where its map lies, and the coordinates of the box.
    Tensor {
        map: Address,
        coordinates: [Row; 5],
        rank: u8,
    },
}

/// From global to shared memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BulkLoad {
    pub(crate) to: Address,
    pub(crate) from: Place,
    pub(crate) barrier: Address,
    /// The blocks of the cluster that get it, a bit each.
    pub(crate) multicast: Option<Row>,
}

/// From shared to global memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BulkStore {
    pub(crate) to: Place,
    pub(crate) from: Address,
}

/// `wgmma.mma_async`: D [64, N] = A [64, K] · B [K, N], or that much more.
#[derive(Clone, Debug)]
pub(crate) struct Product {
    pub(crate) operands: Operands,
    /// N and K.
    pub(crate) width: usize,
    pub(crate) depth: usize,
    /// N / 2 registers.
    pub(crate) d: Vec<Row>,
    pub(crate) a: Left,
    /// A descriptor of shared memory.
    pub(crate) b: Row,
    /// Whether D is added to, and whether that is negated.
    pub(crate) accumulate: (Row, bool),
    pub(crate) negate: bool,
    pub(crate) transpose_a: bool,
    pub(crate) transpose_b: bool,
}

/// Where A of a product is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Left {
    Registers([Row; 4]),
    Shared(Row),
}
