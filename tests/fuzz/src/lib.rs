//! Everything of the data plane that reads bytes from outside, as functions of any bytes.
//!
//! A [`Target`] panics when something is wrong: a crash, a future that nobody will wake, a message
//! that means something else when it arrives in other pieces, an answer out of proportion. The
//! program `weft-fuzz` runs targets on mutated seeds; `libfuzzer/` runs the same ones guided by
//! coverage.

mod feed;
mod mutate;
mod runner;
mod targets;

pub use mutate::Mutator;
pub use runner::{Limits, bounded, replay, run};
pub use targets::targets;

/// A function of any bytes, and what is worth trying on it.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its folder in `corpus/`.
    pub name: &'static str,
    /// Panics when the bytes break something.
    pub run: fn(&[u8]),
    /// Inputs to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Words of the language that it reads.
    pub words: &'static [&'static str],
    /// How many mutated inputs the quick run tries.
    pub quick: u32,
}

impl Target {
    /// The target of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        targets().iter().find(|target| target.name == name).copied()
    }
}
