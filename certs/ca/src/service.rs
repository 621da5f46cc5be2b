//! The signing service: recognises the caller, and certifies exactly that identity.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use prost_types::value::Kind;
use tonic::{Request, Status};
use weft_spiffe::SpiffeId;

use crate::authenticate::{Authenticators, Caller};
use crate::authority::CertificateAuthority;
use crate::error::IssueError;
use crate::wire::{
    IstioCertificateRequest, IstioCertificateResponse, IstioCertificateServiceServer,
};

/// `istio.v1.auth.IstioCertificateService` on a [`CertificateAuthority`].
#[derive(Debug)]
pub struct SigningService {
    authority: Arc<CertificateAuthority>,
    authenticators: Authenticators,
    names: ServiceNames,
}

/// DNS names in certificates of identities, by namespace and service account.
pub type ServiceNames = BTreeMap<(String, String), Vec<String>>;

impl SigningService {
    /// Takes the authority and the ways to recognise callers.
    pub fn new(authority: Arc<CertificateAuthority>, authenticators: Authenticators) -> Self {
        Self { authority, authenticators, names: ServiceNames::new() }
    }

    /// Certificates of these identities have these DNS names too.
    #[must_use]
    pub fn with_names(mut self, names: ServiceNames) -> Self {
        self.names = names;
        self
    }

    /// The service to add to a tonic router.
    pub fn into_server(self) -> IstioCertificateServiceServer {
        IstioCertificateServiceServer::new(self)
    }

    pub(crate) async fn create_certificate(
        &self,
        request: &Request<IstioCertificateRequest>,
    ) -> Result<IstioCertificateResponse, Status> {
        let caller = Caller::of(request);
        let identity = self.authenticators.identify(&caller).await?;
        let message = request.get_ref();
        refuse_impersonation(message, &identity)?;
        let ttl = lifetime(message.validity_duration)?;
        let issued =
            self.authority.issue_with_names(&message.csr, &identity, self.of(&identity), ttl);
        let issued = issued.map_err(|error| status(&error))?;
        tracing::info!(%identity, "certificate issued");
        let mut cert_chain = issued.chain;
        cert_chain.push(issued.roots);
        Ok(IstioCertificateResponse { cert_chain })
    }

    fn of(&self, identity: &SpiffeId) -> &[String] {
        let Some(name) = identity.workload_name() else { return &[] };
        let key = (name.namespace.to_owned(), name.service_account.to_owned());
        self.names.get(&key).map_or(&[], Vec::as_slice)
    }
}

fn lifetime(seconds: i64) -> Result<Option<Duration>, Status> {
    match u64::try_from(seconds) {
        Ok(0) => Ok(None),
        Ok(seconds) => Ok(Some(Duration::from_secs(seconds))),
        Err(_) => Err(Status::invalid_argument(format!(
            "validity_duration: {seconds} seconds; it can't be negative"
        ))),
    }
}

/// Node proxies may ask for other workloads' certificates in Istio; nobody may here.
fn refuse_impersonation(
    message: &IstioCertificateRequest,
    identity: &SpiffeId,
) -> Result<(), Status> {
    let field =
        message.metadata.as_ref().and_then(|metadata| metadata.fields.get("ImpersonatedIdentity"));
    match field.and_then(|value| value.kind.as_ref()) {
        Some(Kind::StringValue(wanted)) if wanted != identity.as_str() && !wanted.is_empty() => {
            Err(Status::permission_denied(format!(
                "{identity} may not have a certificate for {wanted}"
            )))
        }
        _ => Ok(()),
    }
}

fn status(error: &IssueError) -> Status {
    match error {
        IssueError::Request { .. } => Status::invalid_argument(error.to_string()),
        IssueError::TrustDomain { .. } => Status::permission_denied(error.to_string()),
        IssueError::AuthorityExpired | IssueError::Sign { .. } => {
            tracing::error!(%error, "certificate not issued");
            Status::internal(error.to_string())
        }
    }
}
