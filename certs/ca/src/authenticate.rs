//! Who is calling: by the certificate of the connection, or by a bearer token.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use weft_spiffe::{PeerIdentity, SpiffeId, TrustDomain};

use crate::token::TokenVerifier;

/// What a caller shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Caller {
    /// What the TLS layer proved.
    pub peer: PeerIdentity,
    /// The bearer token of the request, without `Bearer `.
    pub bearer_token: Option<String>,
}

impl Caller {
    /// The caller of a gRPC request: [`PeerIdentity`] from its extensions, the token from its
    /// `authorization` metadata.
    pub fn of<T>(request: &tonic::Request<T>) -> Self {
        let header = request.metadata().get("authorization");
        Self {
            peer: request.extensions().get::<PeerIdentity>().cloned().unwrap_or_default(),
            bearer_token: header
                .and_then(|value| value.to_str().ok())
                .and_then(|value| value.strip_prefix("Bearer "))
                .map(|token| token.trim().to_owned()),
        }
    }
}

/// Why a caller isn't recognised.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthenticationError {
    /// It proves nothing, or nothing that is valid.
    #[error("{0}")]
    Unauthenticated(String),
    /// It proves an identity that may not call here.
    #[error("{0}")]
    Denied(String),
}

impl From<AuthenticationError> for tonic::Status {
    fn from(error: AuthenticationError) -> Self {
        match error {
            AuthenticationError::Unauthenticated(reason) => Self::unauthenticated(reason),
            AuthenticationError::Denied(reason) => Self::permission_denied(reason),
        }
    }
}

/// The answer of an [`Authenticator`]: an identity; `None` when the caller shows nothing of the
/// kind that it looks at.
pub type Authentication = Result<Option<SpiffeId>, AuthenticationError>;

/// One way to recognise callers.
pub trait Authenticator: Send + Sync + 'static {
    /// Looks at what the caller shows.
    fn authenticate<'a>(
        &'a self,
        caller: &'a Caller,
    ) -> Pin<Box<dyn Future<Output = Authentication> + Send + 'a>>;
}

/// Recognises callers by the certificate of their connection.
#[derive(Debug, Clone)]
pub struct ClientCertificates {
    /// The trust domain that they must belong to.
    pub trust_domain: TrustDomain,
}

impl Authenticator for ClientCertificates {
    fn authenticate<'a>(
        &'a self,
        caller: &'a Caller,
    ) -> Pin<Box<dyn Future<Output = Authentication> + Send + 'a>> {
        Box::pin(async move {
            let Some(text) = &caller.peer.spiffe_id else {
                return Ok(None);
            };
            let denied = |reason| Err(AuthenticationError::Denied(reason));
            match SpiffeId::parse(text) {
                Ok(id) if id.trust_domain() == self.trust_domain => Ok(Some(id)),
                Ok(id) => denied(format!("{id} is not of the trust domain {}", self.trust_domain)),
                Err(error) => denied(error.to_string()),
            }
        })
    }
}

impl Authenticator for TokenVerifier {
    fn authenticate<'a>(
        &'a self,
        caller: &'a Caller,
    ) -> Pin<Box<dyn Future<Output = Authentication> + Send + 'a>> {
        Box::pin(async move {
            let Some(token) = &caller.bearer_token else {
                return Ok(None);
            };
            match self.verify(token) {
                Ok(id) => Ok(Some(id)),
                Err(error) => Err(AuthenticationError::Unauthenticated(error.to_string())),
            }
        })
    }
}

/// Several ways, tried in order; the first that recognises the caller counts.
#[derive(Clone, Default)]
pub struct Authenticators(Vec<Arc<dyn Authenticator>>);

impl Authenticators {
    /// Takes them in their order.
    pub fn new(ways: Vec<Arc<dyn Authenticator>>) -> Self {
        Self(ways)
    }

    /// The caller's identity.
    ///
    /// # Errors
    /// [`AuthenticationError`] with the reasons of all that failed; `Denied` if one of them denied.
    pub async fn identify(&self, caller: &Caller) -> Result<SpiffeId, AuthenticationError> {
        let mut reasons = Vec::new();
        let mut denied = false;
        for way in &self.0 {
            match way.authenticate(caller).await {
                Ok(Some(id)) => return Ok(id),
                Ok(None) => {}
                Err(error) => {
                    denied |= matches!(error, AuthenticationError::Denied(_));
                    reasons.push(error.to_string());
                }
            }
        }
        let reason = match reasons.is_empty() {
            true => "show a client certificate or a bearer token".to_owned(),
            false => reasons.join("; "),
        };
        Err(match denied {
            true => AuthenticationError::Denied(reason),
            false => AuthenticationError::Unauthenticated(reason),
        })
    }
}

impl fmt::Debug for Authenticators {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authenticators({})", self.0.len())
    }
}
