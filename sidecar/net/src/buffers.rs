//! Buffers of one worker, lent only while bytes are in flight.

use std::cell::RefCell;

/// The sizes that a buffer grows through, bytes.
const SIZES: [usize; 4] = [4 << 10, 16 << 10, 64 << 10, 256 << 10];
/// How many buffers of each size are kept for the next use.
const KEPT: [usize; 4] = [64, 32, 8, 2];

thread_local! {
    static POOL: RefCell<[Vec<Box<[u8]>>; 4]> = const { RefCell::new([const { Vec::new() }; 4]) };
}

/// The size of a buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SizeClass(u8);

impl SizeClass {
    /// The next larger size, if there is one.
    pub(crate) fn grow(self) -> Self {
        Self((self.0 + 1).min(SIZES.len() as u8 - 1))
    }

    /// The next smaller size, if there is one.
    pub(crate) fn shrink(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

/// A buffer of the pool, which it returns to when dropped.
#[derive(Debug)]
pub(crate) struct Buffer {
    bytes: Box<[u8]>,
    class: SizeClass,
}

impl Buffer {
    /// A buffer of this size; its content is arbitrary.
    pub(crate) fn take(class: SizeClass) -> Self {
        let kept = POOL.with(|pool| pool.borrow_mut()[usize::from(class.0)].pop());
        let bytes = kept.unwrap_or_else(|| vec![0; SIZES[usize::from(class.0)]].into_boxed_slice());
        Self { bytes, class }
    }
}

impl std::ops::Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl std::ops::DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        // While the thread ends the pool may be gone; then the buffer just goes too.
        let _ = POOL.try_with(|pool| {
            let class = usize::from(self.class.0);
            let kept = &mut pool.borrow_mut()[class];
            if kept.len() < KEPT[class] {
                kept.push(bytes);
            }
        });
    }
}
