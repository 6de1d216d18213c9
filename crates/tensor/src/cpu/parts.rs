//! Parts of a buffer that are written by different tasks, where they do not follow each other.

use std::marker::PhantomData;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How a buffer of pixels `[N, C]` is divided: those of each pixel into blocks of images.
pub(super) struct Partition {
    pixels: usize,
    batch: usize,
    images: usize,
    /// Whether a task has the part.
    taken: Mutex<Vec<AtomicBool>>,
}

impl Clone for Partition {
    fn clone(&self) -> Self {
        Partition::new(self.pixels, self.batch, self.images)
    }
}

impl Partition {
    /// `pixels` times `batch` images, in blocks of `images`.
    pub(super) fn new(pixels: usize, batch: usize, images: usize) -> Self {
        let taken = (0..pixels * batch.div_ceil(images)).map(|_| AtomicBool::new(false)).collect();
        Partition { pixels, batch, images, taken: Mutex::new(taken) }
    }

    /// Parts in all.
    pub(super) fn len(&self) -> usize {
        self.pixels * self.batch.div_ceil(self.images)
    }

    /// Images of a block.
    pub(super) fn block(&self, block: usize) -> Range<usize> {
        block * self.images..((block + 1) * self.images).min(self.batch)
    }

    /// Number of a part, in the order of memory.
    pub(super) fn index(&self, pixel: usize, block: usize) -> usize {
        pixel * self.batch.div_ceil(self.images) + block
    }

    /// Where a part lies in a buffer of `channels` a pixel and image.
    pub(super) fn range(&self, pixel: usize, block: usize, channels: usize) -> Range<usize> {
        let images = self.block(block);
        let first = pixel * self.batch;
        (first + images.start) * channels..(first + images.end) * channels
    }

    /// The parts of `data`, all free to be taken.
    pub(super) fn of<'a>(&'a self, data: &'a mut [f32]) -> Parts<'a> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.iter_mut().for_each(|taken| *taken.get_mut() = false);
        let channels = data.len() / (self.pixels * self.batch);
        Parts { partition: self, taken, data: data.as_mut_ptr(), length: data.len(), channels, life: PhantomData }
    }
}

/// A buffer whose parts can be taken by any thread, each once.
pub(super) struct Parts<'a> {
    partition: &'a Partition,
    taken: MutexGuard<'a, Vec<AtomicBool>>,
    data: *mut f32,
    length: usize,
    channels: usize,
    life: PhantomData<&'a mut [f32]>,
}

// SAFETY: the pointer stands for an exclusive borrow, of which threads can only get parts that no other has.
unsafe impl Sync for Parts<'_> {}

impl<'a> Parts<'a> {
    /// A part, as the first one to ask for it.
    ///
    /// # Panics
    /// When it has been taken before.
    pub(super) fn take(&self, pixel: usize, block: usize) -> &'a mut [f32] {
        let range = self.partition.range(pixel, block, self.channels);
        let taken = self.taken[self.partition.index(pixel, block)].swap(true, Ordering::Relaxed);
        assert!(!taken && range.end <= self.length, "part {block} of pixel {pixel} is taken once");
        // SAFETY: the range lies in the borrowed slice. Ranges of different parts do not overlap, and `taken` holds for
        // as long as `self` exists, which alone borrows the slice.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(range.start), range.len()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_a_buffer_and_are_taken_once() {
        let partition = Partition::new(3, 5, 2);
        let mut data = vec![0.0; 3 * 5 * 4];
        for _ in 0..2 {
            let parts = partition.of(&mut data);
            for (pixel, block) in (0..3).flat_map(|pixel| (0..3).map(move |block| (pixel, block))) {
                parts.take(pixel, block).iter_mut().for_each(|value| *value += 1.0);
            }
            let again = std::panic::AssertUnwindSafe(|| parts.take(2, 1).len());
            assert!(std::panic::catch_unwind(again).is_err());
        }
        assert!(data.iter().all(|&value| value == 2.0));
    }
}
