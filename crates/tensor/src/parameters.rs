//! The parameters of a model: one block, the same for every plan.

use crate::error::Error;
use crate::op::Group;
use crate::random::{Stream, normal, uniform};
use crate::shape::Shape;
use std::ops::Range;

/// Parameters start at multiples of this many elements, so that vector loads of a device stay aligned.
const ALIGNMENT: usize = 16;

/// How a parameter starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// One value everywhere.
    Constant(f32),
    /// Normal with mean 0.
    Normal {
        /// Standard deviation.
        std: f32,
    },
    /// Uniform in `±bound`.
    Uniform {
        /// Largest magnitude.
        bound: f32,
    },
    /// Rows (of the last dimension) uniformly on the unit sphere.
    UnitRows,
}

/// A named tensor that is trained.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Unique name.
    pub name: String,
    /// Named dimensions.
    pub shape: Shape,
    /// How it starts.
    pub init: Init,
    /// Multiple of the weight decay.
    pub decay: f32,
    /// Multiple of the learning rate.
    pub rate: f32,
    /// First element in the block.
    pub offset: usize,
}

impl Parameter {
    /// Elements of the block.
    pub fn range(&self) -> Range<usize> {
        self.offset..self.offset + self.shape.elements()
    }
}

/// All parameters of a model in the order of their block.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ParameterSet {
    parameters: Vec<Parameter>,
    length: usize,
}

impl ParameterSet {
    /// Appends a parameter with its multiples of weight decay and learning rate.
    ///
    /// # Errors
    /// [`Error::Buffer`], when the name is taken.
    pub fn add(
        &mut self,
        name: impl Into<String>,
        shape: Shape,
        init: Init,
        decay: f32,
        rate: f32,
    ) -> Result<(), Error> {
        let name = name.into();
        if self.get(&name).is_some() {
            return Err(Error::Buffer { name, message: "expected a new parameter, found one of this name".into() });
        }
        shape.expect_possible(&name)?;
        let offset = self.length;
        self.length = (offset + shape.elements()).next_multiple_of(ALIGNMENT);
        self.parameters.push(Parameter { name, shape, init, decay, rate, offset });
        Ok(())
    }

    /// The parameter of this name.
    pub fn get(&self, name: &str) -> Option<&Parameter> {
        self.parameters.iter().find(|parameter| parameter.name == name)
    }

    /// Parameters in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Parameter> {
        self.parameters.iter()
    }

    /// Length of the block in elements, with the padding between parameters.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Number of trained values, without padding.
    pub fn count(&self) -> usize {
        self.parameters.iter().map(|parameter| parameter.shape.elements()).sum()
    }

    /// Groups of the optimiser for this weight decay.
    pub fn groups(&self, decay: f32) -> Vec<Group> {
        self.parameters.iter().map(|p| Group { range: p.range(), decay: p.decay * decay, rate: p.rate }).collect()
    }

    /// The block's initial values: a pure function of the seed and each parameter's name and shape, so that networks
    /// that share a part start with the same values there.
    pub fn initial(&self, seed: u64) -> Vec<f32> {
        let mut block = vec![0.0; self.length];
        for parameter in &self.parameters {
            let tensor =
                parameter.name.bytes().fold(0x811C_9DC5u32, |hash, b| (hash ^ u32::from(b)).wrapping_mul(0x0100_0193));
            let values = &mut block[parameter.range()];
            let normals = |i: usize| normal(seed, Stream::Initialisation, tensor, i as u64);
            match parameter.init {
                Init::Constant(value) => values.fill(value),
                Init::Normal { std } => {
                    values.iter_mut().enumerate().for_each(|(i, v)| *v = (f64::from(std) * normals(i)) as f32);
                }
                Init::Uniform { bound } => values.iter_mut().enumerate().for_each(|(i, v)| {
                    *v = (f64::from(bound) * (2.0 * uniform(seed, Stream::Initialisation, tensor, i as u64) - 1.0))
                        as f32;
                }),
                Init::UnitRows => {
                    let columns = parameter.shape.last();
                    for (row, values) in values.chunks_mut(columns).enumerate() {
                        let direction: Vec<f64> = (0..columns).map(|d| normals(row * columns + d)).collect();
                        let norm = direction.iter().map(|x| x * x).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
                        values.iter_mut().zip(direction).for_each(|(v, x)| *v = (x / norm) as f32);
                    }
                }
            }
        }
        block
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::Dim;

    #[test]
    fn initial_values_depend_on_the_name_not_on_the_neighbours() {
        let vector = |n| Shape::vector(Dim::C, n);
        let mut small = ParameterSet::default();
        small.add("a", vector(5), Init::Normal { std: 0.1 }, 1.0, 1.0).unwrap();
        let mut large = ParameterSet::default();
        large.add("z", vector(3), Init::Uniform { bound: 0.5 }, 1.0, 1.0).unwrap();
        large.add("a", vector(5), Init::Normal { std: 0.1 }, 0.0, 1.0).unwrap();
        assert_eq!(small.initial(1)[..5], large.initial(1)[16..21]);
        assert_ne!(small.initial(1), small.initial(2));
        assert_eq!((large.length(), large.count()), (32, 8));
        assert!(large.add("a", vector(5), Init::UnitRows, 0.0, 1.0).is_err());
    }

    #[test]
    fn unit_rows_have_length_one() {
        let mut set = ParameterSet::default();
        set.add("w", Shape::matrix((Dim::Classes, 10), (Dim::D, 3)), Init::UnitRows, 1.0, 1.0).unwrap();
        for row in set.initial(5)[..30].chunks(3) {
            assert!((row.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-6);
        }
    }
}
