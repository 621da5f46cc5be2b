//! The authority and its service together.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use prost_types::value::Kind;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use std::os::unix::fs::PermissionsExt;
use tonic::{Code, Request};
use weft_spiffe::{CertificateDetails, PeerIdentity, SpiffeId, TrustDomain};
use weft_tls::{
    CertifiedChain, ClientTls, ClientTlsSpec, SanMatcher, ServerTls, ServerTlsSpec, ValidationSpec,
};

use crate::wire::{IstioCertificateRequest, IstioCertificateResponse};
use crate::{
    Authenticators, AuthorityConfig, AuthorityError, CertificateAuthority, ClientCertificates,
    IssueError, ServerNames, ServiceNames, SigningService, TokenIssuer,
};

const HOUR: Duration = Duration::from_secs(3600);

fn domain() -> TrustDomain {
    TrustDomain::new("td").unwrap()
}

fn id(service_account: &str) -> SpiffeId {
    SpiffeId::workload(&domain(), "default", service_account).unwrap()
}

fn open(folder: &Path) -> CertificateAuthority {
    CertificateAuthority::open(AuthorityConfig::new(folder, domain())).unwrap()
}

/// A key and a request that asks for another's identity.
fn request() -> (KeyPair, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    let wish = SanType::URI("spiffe://td/ns/default/sa/admin".try_into().unwrap());
    params.subject_alt_names = vec![wish];
    let csr = params.serialize_request(&key).unwrap().pem().unwrap();
    (key, csr)
}

fn details(pem: &str) -> CertificateDetails {
    use rustls_pki_types::pem::PemObject;
    let der = rustls_pki_types::CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    CertificateDetails::from_der(&der).unwrap()
}

/// Whether a client that trusts `roots` accepts a server with this chain and key.
async fn is_trusted(chain: &[String], key: &KeyPair, roots: &weft_tls::TrustBundle) -> bool {
    let key = key.serialize_pem();
    let chain = CertifiedChain::from_pem(chain.concat().as_bytes(), key.as_bytes()).unwrap();
    let server = ServerTls::new(&ServerTlsSpec::new(vec![chain])).unwrap();
    let client = ClientTls::new(&ClientTlsSpec {
        validation: Some(ValidationSpec::new(
            roots.clone(),
            vec![SanMatcher::uri(id("web").as_str())],
        )),
        ..ClientTlsSpec::default()
    })
    .unwrap();
    let (near, far) = tokio::io::duplex(64 * 1024);
    let (connected, accepted) = tokio::join!(client.connect(near, None, None), server.accept(far));
    connected.is_ok() && accepted.is_ok()
}

#[tokio::test]
async fn certificate_names_only_the_callers_identity() {
    let folder = tempfile::tempdir().unwrap();
    let authority = open(folder.path());
    let (key, csr) = request();
    let issued = authority.issue(&csr, &id("web"), Some(HOUR)).unwrap();
    assert_eq!(issued.chain.len(), 1, "a root signs: no intermediates");
    let leaf = details(&issued.chain[0]);
    assert_eq!(leaf.names.len(), 1);
    assert_eq!(leaf.spiffe_id().unwrap(), id("web"));
    let now = SystemTime::now();
    assert!(leaf.not_before < now - Duration::from_secs(60), "backdated");
    let lifetime = leaf.not_after.duration_since(now).unwrap();
    assert!(lifetime <= HOUR && lifetime > HOUR - Duration::from_secs(60));
    assert!(is_trusted(&issued.chain, &key, authority.roots()).await);
}

#[test]
fn root_is_made_once_and_its_key_is_secret() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path()).roots_pem().to_owned();
    assert_eq!(open(folder.path()).roots_pem(), first);
    let mode = |name: &str| {
        let metadata = std::fs::metadata(folder.path().join(name)).unwrap();
        metadata.permissions().mode() & 0o777
    };
    assert_eq!(mode("root-key.pem"), 0o600);
    assert_eq!(mode("root-cert.pem"), 0o644);
}

#[test]
fn missing_half_of_a_pair_is_named() {
    let folder = tempfile::tempdir().unwrap();
    open(folder.path());
    std::fs::remove_file(folder.path().join("root-key.pem")).unwrap();
    let error = CertificateAuthority::open(AuthorityConfig::new(folder.path(), domain()));
    let error = error.unwrap_err();
    assert!(matches!(error, AuthorityError::Incomplete { .. }));
    assert!(error.to_string().contains("root-key.pem is missing"), "{error}");
}

#[test]
fn key_of_another_authority_is_refused() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    open(one.path());
    open(two.path());
    let key = "root-key.pem";
    std::fs::copy(two.path().join(key), one.path().join(key)).unwrap();
    let error = CertificateAuthority::open(AuthorityConfig::new(one.path(), domain()));
    let error = error.unwrap_err().to_string();
    assert!(error.contains("root-cert.pem") && error.contains("doesn't belong"), "{error}");
}

#[tokio::test]
async fn given_intermediate_signs_and_its_chain_leads_to_the_root() {
    let folder = tempfile::tempdir().unwrap();
    let authority_params = |name: &str| {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    };
    let root = CertifiedIssuer::self_signed(authority_params("r"), KeyPair::generate().unwrap());
    let root = root.unwrap();
    let key = KeyPair::generate().unwrap();
    let middle = authority_params("m").signed_by(&key, &root).unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("ca-cert.pem", &middle.pem());
    write("ca-key.pem", &key.serialize_pem());
    write("cert-chain.pem", &(middle.pem() + &root.pem()));
    write("root-cert.pem", &root.pem());
    let authority = open(folder.path());
    let (key, csr) = request();
    let issued = authority.issue(&csr, &id("web"), None).unwrap();
    assert_eq!(issued.chain.len(), 2, "leaf and intermediate");
    assert_eq!(issued.roots, root.pem());
    assert!(is_trusted(&issued.chain, &key, authority.roots()).await);
}

#[test]
fn lifetime_is_cut_to_the_maximum() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = AuthorityConfig::new(folder.path(), domain());
    config.max_ttl = HOUR;
    let authority = CertificateAuthority::open(config).unwrap();
    let issued = authority.issue(&request().1, &id("web"), Some(24 * HOUR)).unwrap();
    assert!(issued.not_after <= SystemTime::now() + HOUR);
}

#[test]
fn broken_requests_and_foreign_identities_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let authority = open(folder.path());
    let error = authority.issue("nonsense", &id("web"), None).unwrap_err();
    assert!(matches!(error, IssueError::Request { .. }), "{error}");
    let (_, csr) = request();
    // A letter in the middle of the signature.
    let position = csr.rfind("\n-----END").unwrap() - 20;
    let letter = if csr.as_bytes()[position] == b'A' { "B" } else { "A" };
    let mut changed = csr.clone();
    changed.replace_range(position..=position, letter);
    let error = authority.issue(&changed, &id("web"), None).unwrap_err();
    assert!(error.to_string().contains("signature"), "{error}");
    let foreign = SpiffeId::parse("spiffe://other/ns/a/sa/b").unwrap();
    let error = authority.issue(&csr, &foreign, None).unwrap_err();
    assert!(matches!(error, IssueError::TrustDomain { .. }), "{error}");
}

#[test]
fn server_certificate_has_all_its_names() {
    let folder = tempfile::tempdir().unwrap();
    let names = ServerNames {
        dns: vec!["weft.weft-system.svc".into()],
        addresses: vec!["127.0.0.1".parse().unwrap()],
        spiffe_id: Some(id("control-plane")),
    };
    let certificate = open(folder.path()).issue_server(&names, None).unwrap();
    let names: Vec<String> =
        certificate.credential.leaf().names.iter().map(ToString::to_string).collect();
    assert_eq!(
        names,
        ["DNS:weft.weft-system.svc", "IP:127.0.0.1", "URI:spiffe://td/ns/default/sa/control-plane"]
    );
}

struct Fixture {
    _folder: tempfile::TempDir,
    tokens: TokenIssuer,
    service: SigningService,
}

fn fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let authority = Arc::new(open(folder.path()));
    let tokens = TokenIssuer::open(folder.path()).unwrap();
    let authenticators = Authenticators::new(vec![
        Arc::new(ClientCertificates { trust_domain: domain() }),
        Arc::new(tokens.verifier(domain()).unwrap()),
    ]);
    Fixture { _folder: folder, tokens, service: SigningService::new(authority, authenticators) }
}

impl Fixture {
    async fn call(
        &self,
        peer: Option<&str>,
        token: Option<String>,
        change: impl FnOnce(&mut IstioCertificateRequest),
    ) -> Result<IstioCertificateResponse, tonic::Status> {
        let mut message =
            IstioCertificateRequest { csr: request().1, ..IstioCertificateRequest::default() };
        change(&mut message);
        let mut request = Request::new(message);
        if let Some(token) = token {
            let header = format!("Bearer {token}").parse().unwrap();
            request.metadata_mut().insert("authorization", header);
        }
        request.extensions_mut().insert(PeerIdentity { spiffe_id: peer.map(str::to_owned) });
        self.service.create_certificate(&request).await
    }

    fn token(&self, service_account: &str) -> Option<String> {
        Some(self.tokens.issue("default", service_account, HOUR).unwrap())
    }
}

#[tokio::test]
async fn token_and_certificate_both_prove_an_identity() {
    let fixture = fixture();
    let by_token = fixture.call(None, fixture.token("web"), |_| {}).await.unwrap();
    assert_eq!(by_token.cert_chain.len(), 2, "the leaf, then the roots");
    assert_eq!(details(&by_token.cert_chain[0]).spiffe_id().unwrap(), id("web"));
    assert!(details(&by_token.cert_chain[1]).is_authority);
    let peer = Some("spiffe://td/ns/default/sa/other");
    let by_both = fixture.call(peer, fixture.token("web"), |_| {}).await.unwrap();
    let leaf = details(&by_both.cert_chain[0]);
    assert_eq!(leaf.spiffe_id().unwrap(), id("other"), "the certificate counts first");
}

#[tokio::test]
async fn servers_that_are_called_by_name_have_their_names_and_no_other_has() {
    let mut fixture = fixture();
    let whose = ("default".to_owned(), "webhook".to_owned());
    let names = ServiceNames::from([(whose, vec!["webhook.system.svc".to_owned()])]);
    fixture.service = fixture.service.with_names(names);
    for (account, expected) in [("webhook", 1), ("web", 0)] {
        let issued = fixture.call(None, fixture.token(account), |_| {}).await.unwrap();
        let leaf = details(&issued.cert_chain[0]);
        assert_eq!(leaf.spiffe_id().unwrap(), id(account));
        assert_eq!(leaf.dns_names().filter(|name| *name == "webhook.system.svc").count(), expected);
    }
}

#[tokio::test]
async fn callers_without_proof_are_refused_with_the_reason() {
    let fixture = fixture();
    let status = fixture.call(None, None, |_| {}).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    let status = fixture.call(None, Some("x".into()), |_| {}).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert!(status.message().starts_with("token: "), "{status}");
    let foreign = Some("spiffe://other/ns/a/sa/b");
    let status = fixture.call(foreign, None, |_| {}).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn wrong_requests_are_named() {
    let fixture = fixture();
    let token = || fixture.token("web");
    let status = fixture.call(None, token(), |m| m.csr = "x".into()).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let status = fixture.call(None, token(), |m| m.validity_duration = -1).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("validity_duration"), "{status}");
    let impersonate = |message: &mut IstioCertificateRequest| {
        let value = prost_types::Value { kind: Some(Kind::StringValue(id("admin").to_string())) };
        let mut metadata = prost_types::Struct::default();
        metadata.fields.insert("ImpersonatedIdentity".into(), value);
        message.metadata = Some(metadata);
    };
    let status = fixture.call(None, token(), impersonate).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
}
