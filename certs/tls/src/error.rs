//! Why a specification can't be built, a certificate isn't believed, or a handshake failed.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::{AlertDescription, CertificateError, OtherError};
use rustls_pki_types::UnixTime;

use crate::provider::TlsVersion;

/// Why a TLS specification can't be built. Raised at the boundary, never for a connection.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SpecError {
    /// The text is not PEM.
    #[error("{what}: PEM block {block}: {reason}")]
    Pem {
        /// What was being read, such as `certificate chain`.
        what: &'static str,
        /// The block's number in the text, from 1.
        block: usize,
        /// What is wrong.
        reason: String,
    },
    /// The PEM text has no block of the kind that is needed.
    #[error("{what}: no {wanted} block found; the PEM text has {found}")]
    NoPemBlock {
        /// What was being read.
        what: &'static str,
        /// The block that is missing, such as `CERTIFICATE`.
        wanted: &'static str,
        /// The kinds of blocks that are there.
        found: String,
    },
    /// A block or DER value is not a certificate.
    #[error("{what}: certificate {number}: {reason}")]
    Certificate {
        /// What was being read.
        what: &'static str,
        /// The certificate's number, from 1.
        number: usize,
        /// What is wrong.
        reason: String,
    },
    /// The private key can't be used.
    #[error("private key: {reason}")]
    PrivateKey {
        /// What is wrong.
        reason: String,
    },
    /// The private key belongs to another certificate.
    #[error("the private key doesn't belong to the certificate {subject:?}")]
    KeyMismatch {
        /// The leaf's subject, or its first name when that is empty.
        subject: String,
    },
    /// A revocation list can't be read.
    #[error("certificate revocation list {number}: {reason}")]
    Crl {
        /// The list's number, from 1.
        number: usize,
        /// What is wrong.
        reason: String,
    },
    /// A regular expression of a name matcher doesn't compile.
    #[error("name matcher {pattern:?}: {reason}")]
    Regex {
        /// The expression.
        pattern: String,
        /// What is wrong.
        reason: String,
    },
    /// A pinned hash is not a SHA-256 digest in the right spelling.
    #[error("pinned hash {value:?}: {reason}")]
    Hash {
        /// The text that was given.
        value: String,
        /// What was expected.
        reason: &'static str,
    },
    /// Names are to be matched, but nothing says who may vouch for them.
    #[error("subject alternative names are matched without trusted roots; give trusted_ca")]
    NamesWithoutRoots,
    /// A server without a certificate.
    #[error("a TLS server needs at least one certificate")]
    NoServerCertificate,
    /// No protocol version is left.
    #[error("the lowest version {min} is above the highest version {max}")]
    Versions {
        /// Lowest version asked for.
        min: TlsVersion,
        /// Highest version asked for.
        max: TlsVersion,
    },
    /// None of the named cipher suites is known, and the version allows no others.
    #[error("none of the cipher suites {names:?} is supported")]
    CipherSuites {
        /// The names that were given.
        names: Vec<String>,
    },
    /// A server name that can't be sent.
    #[error("{name:?} is not a DNS name and can't be sent as server name indication")]
    ServerName {
        /// The name that was given.
        name: String,
    },
    /// rustls refused the configuration.
    #[error("TLS configuration: {0}")]
    Rustls(#[from] rustls::Error),
}

/// Why a peer's certificate is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// No trusted root vouches for the chain.
    #[error("the certificate's issuer is not trusted")]
    UntrustedIssuer,
    /// A certificate of the chain has expired.
    #[error("the certificate expired at {}", format_time(.not_after))]
    Expired {
        /// When it expired.
        not_after: SystemTime,
    },
    /// A certificate of the chain is not valid yet.
    #[error("the certificate is not valid before {}", format_time(.not_before))]
    NotYetValid {
        /// When it becomes valid.
        not_before: SystemTime,
    },
    /// A certificate of the chain was revoked.
    #[error("the certificate was revoked")]
    Revoked,
    /// Revocation lists are given, but none covers a certificate of the chain.
    #[error("no revocation list covers the certificate")]
    UnknownRevocationStatus,
    /// None of the names is allowed.
    #[error("none of the certificate's names [{}] is one of [{}]", .presented.join(", "), .allowed.join(", "))]
    NameMismatch {
        /// The names in the certificate, such as `URI:spiffe://td/ns/a/sa/b`.
        presented: Vec<String>,
        /// The names or patterns that are allowed.
        allowed: Vec<String>,
    },
    /// The certificate matches none of the pinned hashes.
    #[error("the certificate matches no pinned hash")]
    HashMismatch,
    /// The certificate is for another use, by its extended key usage.
    #[error("the certificate is not meant for this use (extended key usage)")]
    Purpose,
    /// The chain is longer than allowed.
    #[error("the chain has {depth} authorities, at most {max} are allowed")]
    TooDeep {
        /// Authorities in the chain, the root included.
        depth: usize,
        /// The limit.
        max: u32,
    },
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl VerifyError {
    pub(crate) fn from_webpki(error: &webpki::Error) -> Self {
        use webpki::Error as E;
        match error {
            E::UnknownIssuer | E::InvalidSignatureForPublicKey => Self::UntrustedIssuer,
            E::CertExpired { not_after, .. } => {
                Self::Expired { not_after: system_time(*not_after) }
            }
            E::CertNotValidYet { not_before, .. } => {
                Self::NotYetValid { not_before: system_time(*not_before) }
            }
            E::CertRevoked => Self::Revoked,
            E::UnknownRevocationStatus => Self::UnknownRevocationStatus,
            E::RequiredEkuNotFoundContext(_) => Self::Purpose,
            other => Self::Other(format!("the certificate was refused: {other:?}")),
        }
    }

    /// The rustls error whose alert tells the peer the most.
    pub(crate) fn into_rustls(self) -> rustls::Error {
        let now = UnixTime::now();
        let error = match self {
            Self::UntrustedIssuer => CertificateError::UnknownIssuer,
            Self::Revoked => CertificateError::Revoked,
            Self::Expired { not_after } => {
                CertificateError::ExpiredContext { time: now, not_after: unix_time(not_after) }
            }
            Self::NotYetValid { not_before } => CertificateError::NotValidYetContext {
                time: now,
                not_before: unix_time(not_before),
            },
            other => CertificateError::Other(OtherError(Arc::new(other))),
        };
        error.into()
    }

    fn from_rustls(error: &CertificateError) -> Self {
        match error {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                Self::UntrustedIssuer
            }
            CertificateError::Revoked => Self::Revoked,
            CertificateError::ExpiredContext { not_after, .. } => {
                Self::Expired { not_after: system_time(*not_after) }
            }
            CertificateError::NotValidYetContext { not_before, .. } => {
                Self::NotYetValid { not_before: system_time(*not_before) }
            }
            // rustls carries foreign reasons behind `dyn Error`: the one way to get ours back.
            CertificateError::Other(OtherError(inner)) => inner
                .downcast_ref::<Self>()
                .cloned()
                .unwrap_or_else(|| Self::Other(inner.to_string())),
            other => Self::Other(format!("the certificate was refused: {other:?}")),
        }
    }

    /// How a peer is told that it is refused.
    pub(crate) fn alert(&self) -> AlertDescription {
        match self {
            Self::UntrustedIssuer => AlertDescription::UnknownCA,
            Self::Revoked => AlertDescription::CertificateRevoked,
            Self::Expired { .. } | Self::NotYetValid { .. } => AlertDescription::CertificateExpired,
            _ => AlertDescription::CertificateUnknown,
        }
    }

    fn openssl_reason(&self) -> &'static str {
        match self {
            Self::UntrustedIssuer => "unable to get local issuer certificate",
            Self::Expired { .. } => "certificate has expired",
            Self::NotYetValid { .. } => "certificate is not yet valid",
            Self::Revoked => "certificate revoked",
            Self::UnknownRevocationStatus => "unable to get certificate CRL",
            Self::NameMismatch { .. } => "verify SAN list",
            Self::HashMismatch => "certificate hash",
            Self::Purpose => "unsuitable certificate purpose",
            Self::TooDeep { .. } => "certificate chain too long",
            Self::Other(_) => "certificate rejected",
        }
    }
}

/// Why a handshake, or a read or write on a TLS connection, failed.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The peer doesn't speak TLS.
    #[error("the peer doesn't speak TLS")]
    NotTls,
    /// The peer's certificate was refused.
    #[error(transparent)]
    Verify(VerifyError),
    /// The peer showed no certificate although one is required.
    #[error("the peer showed no certificate")]
    NoPeerCertificate,
    /// The peer refused the connection with an alert.
    #[error("the peer refused the connection: {0:?}")]
    Refused(AlertDescription),
    /// No protocol version, cipher suite or the like in common.
    #[error("nothing in common with the peer: {0}")]
    Incompatible(String),
    /// The peer closed the connection.
    #[error("the peer closed the connection during the handshake")]
    Closed,
    /// A server name that can't be sent.
    #[error("{0:?} is not a server name")]
    ServerName(String),
    /// Any other breach of the protocol.
    #[error("TLS: {0}")]
    Protocol(rustls::Error),
    /// The transport failed.
    #[error(transparent)]
    Io(io::Error),
}

impl TlsError {
    /// The reason as Envoy's `UPSTREAM_TRANSPORT_FAILURE_REASON` spells it, with its spaces (the
    /// access log replaces them).
    pub fn transport_failure_reason(&self) -> String {
        const LIBRARY: &str = "SSL routines:OPENSSL_internal";
        match self {
            Self::Verify(reason) => format!(
                "TLS_error:|268435581:{LIBRARY}:CERTIFICATE_VERIFY_FAILED:verify cert failed: {}: {reason}:TLS_error_end",
                reason.openssl_reason()
            ),
            Self::NotTls => {
                format!("TLS_error:|268435703:{LIBRARY}:WRONG_VERSION_NUMBER:TLS_error_end")
            }
            Self::NoPeerCertificate => format!(
                "TLS_error:|268435655:{LIBRARY}:PEER_DID_NOT_RETURN_A_CERTIFICATE:TLS_error_end"
            ),
            Self::Closed => "connection closed during TLS handshake".to_owned(),
            other => format!("TLS_error:|{other}:TLS_error_end"),
        }
    }
}

impl From<rustls::Error> for TlsError {
    fn from(error: rustls::Error) -> Self {
        use rustls::Error as E;
        match error {
            E::InvalidCertificate(reason) => Self::Verify(VerifyError::from_rustls(&reason)),
            E::NoCertificatesPresented => Self::NoPeerCertificate,
            E::AlertReceived(alert) => Self::Refused(alert),
            E::InvalidMessage(rustls::InvalidMessage::InvalidContentType) => Self::NotTls,
            E::PeerIncompatible(reason) => Self::Incompatible(format!("{reason:?}")),
            other => Self::Protocol(other),
        }
    }
}

impl From<io::Error> for TlsError {
    /// Finds the TLS error that tokio-rustls wrapped into an I/O error.
    fn from(error: io::Error) -> Self {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match inner {
            Some(reason) => reason.clone().into(),
            None if error.kind() == io::ErrorKind::UnexpectedEof => Self::Closed,
            None => Self::Io(error),
        }
    }
}

fn system_time(time: UnixTime) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(time.as_secs())
}

fn unix_time(time: SystemTime) -> UnixTime {
    UnixTime::since_unix_epoch(time.duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn format_time(time: &SystemTime) -> String {
    time::UtcDateTime::from(*time).to_string()
}
