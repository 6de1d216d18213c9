//! What a backend is told.

pub use sphereface_tensor::roofline::Precision;

/// Which instructions products use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tier {
    /// Fused multiply-adds of single threads: any GPU.
    Simt,
    /// `mma.sync`: compute capability 8.0 and later.
    Mma,
    /// `wgmma`: compute capability 9.0.
    Wgmma,
}

/// How activations are placed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Arena {
    /// In one allocation; buffers that do not live together share their place.
    #[default]
    Shared,
    /// In an allocation each, so that a memory checker sees where one ends.
    Separate,
}

/// What a backend is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Options {
    /// Arithmetic of products.
    pub precision: Precision,
    /// The best tier to use; the device may have less.
    pub tier: Tier,
    /// Whether the tier makes whatever it can, also where another is thought to be faster, and by so few blocks that one has
    /// several tiles: so that all of it can be tested at small sizes.
    pub forced: bool,
    /// How activations are placed.
    pub arena: Arena,
    /// Whether a plan's second run and later ones are replays of a captured graph.
    pub graph: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options { precision: Precision::Fp32, tier: Tier::Wgmma, forced: false, arena: Arena::Shared, graph: true }
    }
}
