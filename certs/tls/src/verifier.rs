//! The bridge from [`PeerPolicy`] to rustls.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::error::VerifyError;
use crate::provider::default_provider;
use crate::validation::{PeerPolicy, PeerRole};

/// Judges servers. Without a policy any certificate will do, as in Envoy.
#[derive(Debug)]
pub(crate) struct ServerVerifier {
    pub(crate) policy: Option<Arc<PeerPolicy>>,
    /// Whether the server name of the connection must be one of the certificate's.
    pub(crate) match_server_name: bool,
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(policy) = &self.policy {
            let wanted = self.match_server_name.then_some(server_name);
            policy
                .recognize((end_entity, intermediates), wanted, now, PeerRole::Server)
                .map_err(VerifyError::into_rustls)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// Judges clients. Without a policy any certificate will do.
#[derive(Debug)]
pub(crate) struct ClientVerifier {
    policy: Option<Arc<PeerPolicy>>,
    required: bool,
    hints: Vec<DistinguishedName>,
}

impl ClientVerifier {
    pub(crate) fn new(policy: Option<Arc<PeerPolicy>>, required: bool) -> Self {
        let roots = policy.as_ref().and_then(|policy| policy.roots());
        let hints = roots
            .map(|roots| roots.anchors().iter())
            .into_iter()
            .flatten()
            .map(|anchor| DistinguishedName::in_sequence(&anchor.subject))
            .collect();
        Self { policy, required, hints }
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if let Some(policy) = &self.policy {
            policy
                .recognize((end_entity, intermediates), None, now, PeerRole::Client)
                .map_err(VerifyError::into_rustls)?;
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

fn provider() -> &'static Arc<CryptoProvider> {
    default_provider()
}
