//! One attempt: connect to the authority, prove the identity, have a new key certified.

use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_RSA_SHA256, RsaKeySize, SanType};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::Request;
use tonic::transport::{Channel, Endpoint};
use weft_spiffe::SpiffeId;
use weft_tls::{CertifiedChain, ClientTls, ClientTlsSpec, TrustBundle, ValidationSpec};

use crate::certificates::WorkloadCertificates;
use crate::config::{AgentConfig, KeyType};
use crate::error::FetchError;
use crate::wire::{IstioCertificateRequest, create_certificate};

/// Longest attempt, from connecting to the answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What proves the identity.
enum Proof {
    Certificate(CertifiedChain),
    Token(String),
}

/// Gets a new certificate: with the current one as proof if it is valid, else, or when that is
/// refused, with the token.
pub(crate) async fn obtain(
    config: &AgentConfig,
    current: Option<&CertifiedChain>,
) -> Result<WorkloadCertificates, FetchError> {
    let now = config.clock.now();
    let valid = current.filter(|chain| chain.leaf().not_after > now);
    if let Some(chain) = valid {
        match attempt(config, Proof::Certificate(chain.clone())).await {
            Err(error @ (FetchError::Refused(_) | FetchError::Transport(_)))
                if config.token.is_some() =>
            {
                tracing::warn!(%error, "not renewed by certificate, trying the token");
            }
            result => return result,
        }
    }
    let token = token(config)?;
    attempt(config, Proof::Token(token)).await
}

async fn attempt(config: &AgentConfig, proof: Proof) -> Result<WorkloadCertificates, FetchError> {
    timeout(TIMEOUT, exchange(config, proof)).await.map_err(|_| FetchError::Timeout {
        address: config.ca_address.clone(),
        seconds: TIMEOUT.as_secs(),
    })?
}

async fn exchange(config: &AgentConfig, proof: Proof) -> Result<WorkloadCertificates, FetchError> {
    let (certificate, token) = match proof {
        Proof::Certificate(chain) => (Some(chain), None),
        Proof::Token(token) => (None, Some(token)),
    };
    let channel = connect(config, certificate).await?;
    let key = make_key(config.key_type).await?;
    let ttl = config.ttl.as_secs();
    let mut request = Request::new(IstioCertificateRequest {
        csr: signing_request(&config.identity, &key)?,
        validity_duration: i64::try_from(ttl).unwrap_or(i64::MAX),
        metadata: None,
    });
    if let Some(token) = token {
        let header = format!("Bearer {token}").parse();
        let header = header.map_err(|_| {
            FetchError::Refused(tonic::Status::unauthenticated(
                "the token has characters that can't be sent",
            ))
        })?;
        request.metadata_mut().insert("authorization", header);
    }
    let answer = create_certificate(channel, request).await.map_err(FetchError::Refused)?;
    accept(config, answer.cert_chain, key.serialize_pem())
}

/// Checks an answer before anything is replaced by it.
fn accept(
    config: &AgentConfig,
    mut elements: Vec<String>,
    key: String,
) -> Result<WorkloadCertificates, FetchError> {
    if elements.len() < 2 {
        return Err(FetchError::Incomplete { elements: elements.len() });
    }
    let roots = elements.pop().unwrap_or_default();
    for element in &mut elements {
        if !element.ends_with('\n') {
            element.push('\n');
        }
    }
    let now = config.clock.now();
    let certificates = WorkloadCertificates::from_pem(elements.concat(), key, roots, now)?;
    if certificates.spiffe_id().as_ref() != Some(&config.identity) {
        let names = certificates.credential().leaf().names.iter();
        return Err(FetchError::Identity {
            expected: config.identity.clone(),
            got: names.map(ToString::to_string).collect::<Vec<_>>().join(", "),
        });
    }
    certificates
        .roots()
        .vouch_for(certificates.credential().certificates(), now)
        .map_err(FetchError::Invalid)?;
    Ok(certificates)
}

/// Connects before the channel exists, so that a failed handshake keeps its reason.
async fn connect(
    config: &AgentConfig,
    certificate: Option<CertifiedChain>,
) -> Result<Channel, FetchError> {
    let tls = ClientTls::new(&ClientTlsSpec {
        certificate,
        validation: Some(ValidationSpec::new(roots(config)?, Vec::new())),
        alpn: vec![b"h2".to_vec()],
        sni: Some(config.server_name.clone()),
        match_server_name: true,
        session_resumption: false,
        ..ClientTlsSpec::default()
    })?;
    let address = || config.ca_address.clone();
    let stream = TcpStream::connect(&config.ca_address)
        .await
        .map_err(|source| FetchError::Connect { address: address(), source })?;
    let stream = tls
        .connect(stream, None, None)
        .await
        .map_err(|source| FetchError::Tls { address: address(), source })?;
    // The connector is asked once; a second time there is nothing left to give.
    let ready = Mutex::new(Some(TokioIo::new(stream)));
    let connector = tower::service_fn(move |_| {
        let stream = ready.lock().ok().and_then(|mut ready| ready.take());
        std::future::ready(
            stream.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotConnected)),
        )
    });
    // The scheme is for HTTP only: TLS is already done.
    let uri = format!("http://{}", uri_host(&config.server_name));
    Ok(Endpoint::from_shared(uri)
        .map_err(|_| FetchError::ServerName(config.server_name.clone()))?
        .connect_with_connector(connector)
        .await?)
}

fn uri_host(name: &str) -> String {
    match name.contains(':') {
        true => format!("[{name}]"),
        false => name.to_owned(),
    }
}

fn roots(config: &AgentConfig) -> Result<TrustBundle, FetchError> {
    let text = read(&config.trust_roots)?;
    TrustBundle::from_pem(text.as_bytes())
        .map_err(|source| FetchError::Content { path: config.trust_roots.clone(), source })
}

fn token(config: &AgentConfig) -> Result<String, FetchError> {
    let path = config.token.as_ref().ok_or(FetchError::NoCredential)?;
    Ok(read(path)?.trim().to_owned())
}

pub(crate) fn read(path: &Path) -> Result<String, FetchError> {
    std::fs::read_to_string(path)
        .map_err(|source| FetchError::File { path: path.to_owned(), source })
}

async fn make_key(kind: KeyType) -> Result<KeyPair, FetchError> {
    match kind {
        KeyType::EcdsaP256 => Ok(KeyPair::generate()?),
        // Takes a good part of a second: not on a thread that serves others.
        KeyType::Rsa2048 => {
            let generate = || KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048);
            let key = tokio::task::spawn_blocking(generate).await;
            Ok(key.unwrap_or(Err(rcgen::Error::KeyGenerationUnavailable))?)
        }
    }
}

fn signing_request(identity: &SpiffeId, key: &KeyPair) -> Result<String, FetchError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(identity.as_str().try_into()?)];
    Ok(params.serialize_request(key)?.pem()?)
}
