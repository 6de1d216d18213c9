//! What is ordered before what inside a block: a clock for each warp, and for everything that works beside the warps.
//!
//! Time counts barriers, arrivals and asynchronous operations. Of each agent a clock says the time before which that
//! agent's accesses to shared memory are ordered before those of whoever holds the clock. Each block of a cluster has
//! agents and time of its own.

/// Warps of a block, and as many agents that are none.
pub(crate) const AGENTS: usize = 64;
/// The first agent that is no warp.
pub(crate) const FIRST_AGENT: usize = 32;

/// Of each agent, a time.
pub(crate) type Clock = [u32; AGENTS];

/// Who touches shared memory beside the warps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Agent {
    /// Bulk copies that complete on the transaction barrier at this offset.
    Loads(u32),
    /// Bulk copies out of shared memory that a warp started.
    Stores(u32),
    /// Asynchronous products of a warpgroup.
    Products(u32),
    /// Plain stores of the block with this rank in the cluster: the first agents, in order, of a block that has a cluster.
    Block(u32),
}

/// What is ordered before a warp, or before whoever a barrier lets go, of one block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clocks {
    pub(crate) known: Clock,
    /// Of each warp, the time before which its writes are visible to asynchronous operations too: a proxy fence came
    /// after them.
    pub(crate) fenced: Clock,
}

/// What is ordered before a warp, of its own block and of the others of its cluster.
#[derive(Clone, Debug, Default)]
pub(crate) struct Order {
    pub(crate) own: Clocks,
    /// By rank, the own one unused; nothing in a block that has no cluster.
    pub(crate) others: Vec<Clocks>,
}

impl Default for Clocks {
    fn default() -> Self {
        Clocks { known: [0; AGENTS], fenced: [0; AGENTS] }
    }
}

impl Clocks {
    fn combine(&mut self, other: &Clocks, f: impl Fn(u32, u32) -> u32) {
        let pairs = self.known.iter_mut().zip(&other.known).chain(self.fenced.iter_mut().zip(&other.fenced));
        pairs.for_each(|(mine, theirs)| *mine = f(*mine, *theirs));
    }
}

impl Order {
    /// What a warp of a cluster of so many blocks knows before its first instruction.
    pub(crate) fn begin(blocks: usize) -> Order {
        let begin = Clocks { known: [1; AGENTS], fenced: [0; AGENTS] };
        Order { own: begin, others: if blocks > 1 { vec![begin; blocks] } else { Vec::new() } }
    }

    /// Learns what another knows.
    pub(crate) fn join(&mut self, other: &Order) {
        self.own.combine(&other.own, u32::max);
        if self.others.len() < other.others.len() {
            self.others.resize(other.others.len(), Clocks::default());
        }
        self.others.iter_mut().zip(&other.others).for_each(|(mine, theirs)| mine.combine(theirs, u32::max));
    }

    /// Keeps only what another knows as well.
    pub(crate) fn meet(&mut self, other: &Order) {
        self.own.combine(&other.own, u32::min);
        self.others.iter_mut().zip(&other.others).for_each(|(mine, theirs)| mine.combine(theirs, u32::min));
    }

    /// The same from one block of the cluster as another has to see it.
    pub(crate) fn seen_from(mut self, rank: usize, other: usize) -> Order {
        if rank != other && other < self.others.len() {
            self.others[rank] = self.own;
            self.own = self.others[other];
        }
        self
    }
}
