//! Offsets in one arena for buffers that do not live at the same time.

use crate::plan::Lifetime;

/// A buffer to be placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Length, in the units of the result.
    pub length: usize,
    /// Steps during which it must stay.
    pub lifetime: Lifetime,
}

/// The offset of each request, and the arena's length: two that live at the same time never overlap.
///
/// Largest first, each at the lowest place that is free during its whole life.
pub fn assign(requests: &[Request]) -> (Vec<usize>, usize) {
    let mut order: Vec<usize> = (0..requests.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(requests[i].length), i));
    let mut offsets = vec![0; requests.len()];
    let mut placed: Vec<usize> = Vec::new(); // in ascending order of offset
    let mut total = 0;
    for i in order {
        let Request { length, lifetime } = requests[i];
        let mut offset = 0;
        for &other in &placed {
            let life = requests[other].lifetime;
            if life.first <= lifetime.last && lifetime.first <= life.last {
                if offsets[other] >= offset + length {
                    break;
                }
                offset = offset.max(offsets[other] + requests[other].length);
            }
        }
        offsets[i] = offset;
        total = total.max(offset + length);
        let at = placed.partition_point(|&other| offsets[other] <= offset);
        placed.insert(at, i);
    }
    (offsets, total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request(length: usize, first: usize, last: usize) -> Request {
        Request { length, lifetime: Lifetime { first, last } }
    }

    #[test]
    fn buffers_that_follow_each_other_share_their_place() {
        let (offsets, total) = assign(&[request(8, 0, 1), request(8, 2, 3), request(4, 1, 2)]);
        assert_eq!((offsets, total), (vec![0, 0, 8], 12));
    }

    proptest! {
        #[test]
        fn buffers_that_live_together_never_overlap(
            sizes in proptest::collection::vec((1usize..50, 0usize..20, 0usize..6), 1..40),
        ) {
            let requests: Vec<Request> = sizes.iter().map(|&(l, first, life)| request(l, first, first + life)).collect();
            let (offsets, total) = assign(&requests);
            for (i, a) in requests.iter().enumerate() {
                prop_assert!(offsets[i] + a.length <= total);
                for (j, b) in requests.iter().enumerate().skip(i + 1) {
                    let together = a.lifetime.first <= b.lifetime.last && b.lifetime.first <= a.lifetime.last;
                    let apart = offsets[i] + a.length <= offsets[j] || offsets[j] + b.length <= offsets[i];
                    prop_assert!(!together || apart, "{i} and {j}");
                }
            }
        }
    }
}
