//! APISIX's plugins, one file each, and the chain that runs them.
//!
//! A plugin is a [`Definition`]: a name, a priority, a schema and the function that compiles a
//! configuration. The control plane checks with it what people write; proxies compile with it what
//! they are sent, so that both agree on what a plugin takes. A route's plugins become one
//! [`Chain`], which [`ChainFilter`] runs in APISIX's order.

mod api_breaker;
mod auth;
mod basic_auth;
mod brotli;
mod callout;
mod chain;
mod client_control;
mod compress;
mod consumer_restriction;
mod consumers;
mod cors;
mod csrf;
mod definition;
mod exchange;
mod fault_injection;
mod file_logger;
mod filter;
mod forward_auth;
mod gzip;
mod hmac_auth;
mod http_logger;
mod ip_restriction;
mod jwt_auth;
mod key_auth;
mod keyed;
mod limit_conn;
mod limit_count;
mod limit_req;
mod link;
mod logging;
mod mocking;
mod multi_auth;
mod opa;
mod plugin;
mod prometheus;
mod public_api;
mod real_ip;
mod redis;
mod referer_restriction;
mod registry;
mod reply;
mod request_id;
mod request_validation;
mod response_rewrite;
mod run;
mod secret;
mod states;
mod syslog;
mod tcp_logger;
mod template;
mod ua_restriction;
mod udp_logger;
mod uri_blocker;
mod variables;
mod workflow;

pub use callout::CalloutTarget;
pub use chain::{Chain, ChainError};
pub use consumers::Consumers;
pub use definition::Definition;
pub use filter::{ChainFilter, ConsumersFilter};
pub use registry::{check, check_consumer, definition, definitions};

#[cfg(test)]
mod testing;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
