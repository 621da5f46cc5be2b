//! The service and the client of the demonstration.

mod call;
mod serve;

pub use call::{CallOptions, Outcome, call};
pub use serve::{Greeting, ServeOptions, serve};
