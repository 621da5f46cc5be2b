//! The client against the server over loopback, in both variants.

#![allow(clippy::unwrap_used, reason = "a test may panic, also in its helpers")]

mod bench;
mod cached;
mod connected;
mod large;
mod loads;
