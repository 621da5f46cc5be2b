//! The certificate authority and its signing service.
//!
//! [`CertificateAuthority`] keeps a root (made at first start, or given) and issues short-lived
//! SVIDs; [`SigningService`] offers that over gRPC with the wire contract of
//! `istio.v1.auth.IstioCertificateService`, to callers that an [`Authenticator`] recognises.

mod authenticate;
mod authority;
mod csr;
mod error;
mod incoming;
mod service;
mod storage;
mod template;
#[cfg(test)]
mod tests;
mod token;
pub mod wire;

pub use authenticate::{
    Authentication, AuthenticationError, Authenticator, Authenticators, Caller, ClientCertificates,
};
pub use authority::{
    AuthorityConfig, CertificateAuthority, IssuedCertificate, ServerCertificate, ServerNames,
};
pub use error::{AuthorityError, IssueError, TokenError};
pub use incoming::{TlsConnection, TlsIncoming};
pub use service::{ServiceNames, SigningService};
pub use token::{TOKEN_AUDIENCE, TokenIssuer, TokenVerifier};

/// The README, so that its example is compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
