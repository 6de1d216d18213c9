//! What is ordered before what inside a block: a clock for each warp, and for everything that works beside the warps.
//!
//! Time counts barriers, arrivals and asynchronous operations. Of each agent a clock says the time before which that
//! agent's accesses to shared memory are ordered before those of whoever holds the clock.

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
    /// Bulk copies out of shared memory that a thread started.
    Stores(u32),
    /// Asynchronous products of a warpgroup.
    Products(u32),
}

/// What is ordered before a warp, or before whoever a barrier lets go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order {
    pub(crate) known: Clock,
    /// Of each warp, the time before which its writes are visible to asynchronous operations too: a proxy fence came
    /// after them.
    pub(crate) fenced: Clock,
}

impl Order {
    /// What a warp knows before its first instruction.
    pub(crate) const BEGIN: Order = Order { known: [1; AGENTS], fenced: [0; AGENTS] };

    /// Learns what another knows.
    pub(crate) fn join(&mut self, other: &Order) {
        let pairs = self.known.iter_mut().zip(&other.known).chain(self.fenced.iter_mut().zip(&other.fenced));
        pairs.for_each(|(mine, theirs)| *mine = (*mine).max(*theirs));
    }

    /// Keeps only what another knows as well.
    pub(crate) fn meet(&mut self, other: &Order) {
        let pairs = self.known.iter_mut().zip(&other.known).chain(self.fenced.iter_mut().zip(&other.fenced));
        pairs.for_each(|(mine, theirs)| *mine = (*mine).min(*theirs));
    }
}

impl Default for Order {
    fn default() -> Self {
        Order { known: [0; AGENTS], fenced: [0; AGENTS] }
    }
}
