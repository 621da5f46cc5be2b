//! Why the authority can't be opened, a certificate isn't issued, or a token isn't believed.

use std::io;
use std::path::PathBuf;

use weft_spiffe::SpiffeId;
use weft_tls::SpecError;

/// Why the authority's or the token issuer's files can't be used.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file or folder can't be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// One of two files that belong together is missing.
    #[error(
        "{} is there but {} is missing: put it there, or move the former away to have a new authority made",
        present.display(), missing.display()
    )]
    Incomplete {
        /// The file that is there.
        present: PathBuf,
        /// The file that is not.
        missing: PathBuf,
    },
    /// A file's content can't be used.
    #[error("{}: {reason}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Certificate and key are not a usable authority.
    #[error("{}: {source}", path.display())]
    Certificate {
        /// The certificate's file.
        path: PathBuf,
        /// What is wrong.
        source: SpecError,
    },
    /// A key or certificate can't be made.
    #[error("can't make {what}: {reason}")]
    Generate {
        /// What was to be made.
        what: &'static str,
        /// What the library said.
        reason: String,
    },
}

/// Why a certificate isn't issued.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The signing request can't be read, or its signature is wrong.
    #[error("signing request: {reason}")]
    Request {
        /// What is wrong.
        reason: String,
    },
    /// The identity belongs to another trust domain.
    #[error("{id} is not of this authority's trust domain {trust_domain}")]
    TrustDomain {
        /// The identity.
        id: SpiffeId,
        /// The authority's trust domain.
        trust_domain: String,
    },
    /// The authority's own certificate has expired.
    #[error("the authority's own certificate has expired; renew it")]
    AuthorityExpired,
    /// The certificate can't be signed.
    #[error("can't sign: {reason}")]
    Sign {
        /// What the library said.
        reason: String,
    },
}

/// Why a token isn't believed.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Wrong form, signature, audience or issuer, or expired.
    #[error("token: {0}")]
    Invalid(#[from] jsonwebtoken::errors::Error),
    /// The subject is not `system:serviceaccount:<namespace>:<service account>`.
    #[error("token: the subject {subject:?} is no service account")]
    Subject {
        /// The token's subject.
        subject: String,
    },
}
