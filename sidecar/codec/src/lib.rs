//! HTTP/1 and HTTP/2 on one connection, at either end.
//!
//! What the connection manager and the pools of upstream connections see of a
//! protocol: heads, bodies ([`Incoming`]), errors ([`CodecError`]) and
//! connections that leave HTTP ([`Upgrading`]), the same for both versions.
//! Nothing here knows of routes, clusters or workers; futures and bodies stay
//! on the thread of their connection.

pub mod http1;
pub mod http2;

mod error;
mod incoming;
mod reason;
mod transport;
mod upgrade;

pub use error::{CodecError, SendFailed};
pub use incoming::Incoming;
pub use reason::Reason;
pub use transport::Transport;
pub use upgrade::{Upgraded, Upgrading};
