//! The same bootstrap and the same clients against Envoy and against weft-sidecar.
//!
//! A topic is a YAML file in `cases/`: what is configured, and cases that send
//! requests. What can be seen of each (at the client, at the upstream, in the
//! access log, in the counters) is written down as text, with what differs
//! from run to run replaced by its name. Envoy's answers are kept in
//! `recorded/`; Weft has to give the same, but for the cases that say why not.

mod bootstrap;
mod case;
mod client;
mod http1;
mod http2;
mod proxy;
mod record;
mod run;
mod upstream;

pub use case::Topic;
pub use proxy::Kind;
pub use record::Record;
pub use run::observe;
