//! What the end-to-end tests share: processes, ports, servers, captured output.
//!
//! Nothing here sleeps for a fixed time: every wait asks again until the
//! answer is there, with a deadline.

mod api_server;
mod client;
mod port;
mod process;
mod program;
mod upstream;
mod wait;

pub use api_server::ApiServer;
pub use client::{Reply, get, send, send_on};
pub use port::free_port;
pub use process::Process;
pub use program::program;
pub use upstream::{Seen, Upstream};
pub use wait::{DEADLINE, eventually, until};
