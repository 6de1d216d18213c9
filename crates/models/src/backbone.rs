//! What a model asks of its network, so that it may be anybody's.

use sphereface_tensor::{BufferId, Error, Init, ParameterSet, PlanBuilder};

/// From images to embeddings: what a [`Model`](crate::Model) needs of a network. [`Network`](crate::Network) describes
/// those of SphereFace's shape; any other implements this with the operators of [`PlanBuilder`], which knows their
/// derivatives.
pub trait Backbone {
    /// Height, width and channels of an image.
    fn image(&self) -> [usize; 3];

    /// D, the length of an embedding.
    fn embedding(&self) -> usize;

    /// Names the trained parameters, each with its shape, its first values, and its multiples of weight decay and rate.
    ///
    /// # Errors
    /// [`Error`], when a name is taken or a shape is too large.
    fn declare(&self, parameters: &mut ParameterSet) -> Result<(), Error>;

    /// Appends the forward steps from images `[H, W, N, C]` to embeddings `[N, D]`; backward steps follow from them.
    ///
    /// # Errors
    /// [`Error`], when shapes do not fit.
    fn build(&self, plan: &mut PlanBuilder<'_>, images: BufferId) -> Result<BufferId, Error>;

    /// How class weights `[classes, D]` start: on the unit sphere.
    fn classifier_init(&self) -> Init {
        Init::UnitRows
    }
}
