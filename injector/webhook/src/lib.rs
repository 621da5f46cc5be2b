//! The admission webhook around `weft-inject`: TLS with a certificate of the mesh's own authority,
//! settings that are followed, and well-formed answers to whatever comes in.

mod certificate;
mod review;
mod server;
mod settings;

pub use certificate::{CertificateSource, server_tls};
pub use review::{Answer, answer};
pub use server::{health, webhook};
pub use settings::follow;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
