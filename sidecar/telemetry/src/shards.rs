//! Parts of what threads share, one for each thread as long as there are not many of them.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many parts there are; each worker has its own as long as there are no more workers than this.
pub const SHARDS: usize = 16;

thread_local! {
    static SHARD: Cell<Option<usize>> = const { Cell::new(None) };
}

/// The part of this thread, below [`SHARDS`].
#[must_use]
pub fn shard() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    SHARD.with(|shard| {
        shard.get().unwrap_or_else(|| {
            let index = NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS;
            shard.set(Some(index));
            index
        })
    })
}
