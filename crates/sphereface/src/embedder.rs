//! Embeddings of any images by a trained model.

use crate::error::Error;
use sphereface_export::pytorch;
use sphereface_models::{Backbone, ImageSource, Model};
use sphereface_tensor::{Backend, PARAMETERS, Program};
use std::fs;
use std::path::Path;

/// A trained model that turns images into embeddings, `batch` at a time.
pub struct Embedder {
    backend: Box<dyn Backend>,
    program: Program,
    /// One batch of images on the backend.
    source: ImageSource,
    image: [usize; 3],
    embedding: usize,
}

impl Embedder {
    /// Reads the `model.safetensors` that every finished training leaves in its folder. The file says itself which network
    /// and loss it holds; one of a network or loss of your own needs [`Embedder::new`].
    ///
    /// # Errors
    /// [`Error::Unreadable`]; [`Error::File`] with the first thing in the file that is missing or wrong; [`Error::Plan`].
    pub fn open(backend: Box<dyn Backend>, path: impl AsRef<Path>, batch: usize) -> Result<Embedder, Error> {
        let path = path.as_ref();
        let wrong = |source| Error::File { path: path.into(), source };
        let file = fs::read(path).map_err(|source| Error::Unreadable { path: path.into(), source })?;
        let model = pytorch::model(&file).map_err(wrong)?;
        let values = pytorch::decode(&file, &model, &model.parameters()?).map_err(wrong)?;
        Embedder::new(backend, &model, &values, batch)
    }

    /// Takes the trained values of a model: [`Session::values`](crate::Session::values), or what
    /// [`pytorch::decode`] read.
    ///
    /// # Errors
    /// [`Error::Given`], when there are more or fewer values than the model has; [`Error::Plan`].
    pub fn new<N: Backbone>(
        mut backend: Box<dyn Backend>,
        model: &Model<N>,
        values: &[f32],
        batch: usize,
    ) -> Result<Embedder, Error> {
        let parameters = model.parameters()?;
        if values.len() != parameters.length() {
            return Err(Error::given("values", parameters.length(), values.len()));
        }
        let source = ImageSource { name: "embed", images: batch };
        let program = backend.lower(&model.embedding_plan(&parameters, source, batch)?)?;
        backend.upload(PARAMETERS, bytemuck::cast_slice(values))?;
        backend.upload(&source.labels_buffer(), &vec![0; batch])?; // which no embedding depends on
        let (image, embedding) = (model.network.image(), model.network.embedding());
        Ok(Embedder { backend, program, source, image, embedding })
    }

    /// Height, width and channels of an image.
    pub fn image(&self) -> [usize; 3] {
        self.image
    }

    /// D, the length of an embedding.
    pub fn embedding(&self) -> usize {
        self.embedding
    }

    /// Embeds any number of images. The embeddings are not normalised: the cosine of two is their product over their norms.
    ///
    /// # Shapes
    /// `images` `[N, H, W, C]`, pixels of 0 to 255, becomes `[N, D]`.
    ///
    /// # Errors
    /// [`Error::Given`], when the last image is not whole; [`Error::Plan`], when the backend fails.
    pub fn embed(&mut self, images: &[u8]) -> Result<Vec<f32>, Error> {
        let (size, batch) = (self.image.iter().product::<usize>(), self.source.images);
        if !images.len().is_multiple_of(size) {
            return Err(Error::given("images", format!("a multiple of {size} bytes"), images.len()));
        }
        let mut embeddings = Vec::with_capacity(images.len() / size * self.embedding);
        let mut rows = vec![0.0f32; batch * self.embedding];
        for part in images.chunks(batch * size) {
            // The last batch is filled up with black images.
            let mut whole = part.to_vec();
            whole.resize(batch * size, 0);
            self.backend.upload(&self.source.images_buffer(), &whole)?;
            self.backend.upload(&self.source.counter_buffer(), &[0; 4])?;
            self.backend.run(self.program, 1)?;
            self.backend.download(&self.source.embedding_buffer(), bytemuck::cast_slice_mut(&mut rows))?;
            embeddings.extend_from_slice(&rows[..part.len() / size * self.embedding]);
        }
        Ok(embeddings)
    }
}
