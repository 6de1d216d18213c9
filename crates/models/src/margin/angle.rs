//! What margins by the angle share: slopes with respect to the cosine, which a sine divides.

/// Slopes are taken at angles at least this far, in radians, from 0 and π. There `dθ/dc = −1 / sin θ` is infinite, while the
/// part of a class weight across the embedding, which it multiplies, is 0: in f32 their product would be noise.
pub(super) const NEAREST: f64 = 1e-3;

/// Cosine and sine of the angle at which a slope is taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sides {
    pub(super) cos: f64,
    pub(super) sin: f64,
}

impl Sides {
    pub(super) fn of(c: f64) -> Sides {
        let largest = NEAREST.cos();
        if c.abs() > largest {
            Sides { cos: largest.copysign(c), sin: NEAREST.sin() }
        } else {
            Sides { cos: c, sin: sine(c) }
        }
    }
}

/// `sin θ`.
pub(super) fn sine(c: f64) -> f64 {
    ((1.0 - c) * (1.0 + c)).sqrt()
}
