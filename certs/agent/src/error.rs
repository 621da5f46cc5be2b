//! Why there is no new certificate, or none from the cache.

use std::io;
use std::path::PathBuf;

use weft_spiffe::SpiffeId;
use weft_tls::{SpecError, TlsError, VerifyError};

/// Why an attempt to get a certificate failed.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// A file can't be read.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A file's content can't be used.
    #[error("{}: {source}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: SpecError,
    },
    /// Nothing proves the identity: no valid certificate, no token file.
    #[error(
        "nothing proves the identity: no valid certificate is there and no token file is configured"
    )]
    NoCredential,
    /// The key or the signing request can't be made.
    #[error("can't make a signing request: {0}")]
    Request(#[from] rcgen::Error),
    /// The authority can't be reached.
    #[error("can't connect to the certificate authority at {address}: {source}")]
    Connect {
        /// Its address.
        address: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// The TLS handshake with the authority failed.
    #[error("TLS handshake with the certificate authority at {address}: {source}")]
    Tls {
        /// Its address.
        address: String,
        /// Why.
        source: TlsError,
    },
    /// The TLS configuration can't be built.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The connection failed after the handshake.
    #[error("connection to the certificate authority: {0}")]
    Transport(#[from] tonic::transport::Error),
    /// The authority said no.
    #[error("the certificate authority answered {}: {}", .0.code(), .0.message())]
    Refused(tonic::Status),
    /// The authority did not answer in time.
    #[error("no answer from the certificate authority at {address} within {seconds} s")]
    Timeout {
        /// Its address.
        address: String,
        /// The limit in seconds.
        seconds: u64,
    },
    /// The answer lacks chain or roots.
    #[error("the answer has {elements} elements; a chain and the roots are expected")]
    Incomplete {
        /// How many it has.
        elements: usize,
    },
    /// The certificate is for someone else.
    #[error("the certificate is for {got}, not for {expected}")]
    Identity {
        /// The identity that was configured.
        expected: SpiffeId,
        /// What the certificate says.
        got: String,
    },
    /// The certificate is not valid by the roots that came with it.
    #[error("the new certificate: {0}")]
    Invalid(VerifyError),
    /// The address or server name can't stand in a URI.
    #[error("{0:?} is not a server name")]
    ServerName(String),
}

/// Why the cache is of no use.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// It can't be read or written.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Its form is wrong.
    #[error("its content is broken: {0}")]
    Format(#[from] serde_json::Error),
    /// It belongs to another identity.
    #[error("it belongs to {0}")]
    Identity(String),
    /// Its certificate can't be used.
    #[error(transparent)]
    Certificate(#[from] SpecError),
    /// Its certificate has expired.
    #[error("its certificate has expired")]
    Expired,
}
