//! The translation as a whole: goldens, and what a change makes anew.
//!
//! Goldens are rewritten with `UPDATE_GOLDEN=1`. Each is also given to the data plane's own
//! compiler, which must accept every resource.

#[path = "translate/changes.rs"]
mod changes;
#[path = "translate/following.rs"]
mod following;
#[path = "translate/golden.rs"]
mod golden;
#[path = "translate/problems.rs"]
mod problems;
#[path = "translate/streams.rs"]
mod streams;
#[path = "translate/support.rs"]
mod support;
