//! Connections over TLS.

use std::rc::Rc;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use weft_filter_api::Protocol;
use weft_model::{Cluster, ProtocolChoice, Slot, UpstreamSocket};
use weft_tls::{
    CertifiedChain, ClientTls, ClientTlsSpec, SanMatcher, ServerTls, ServerTlsSpec, TrustBundle,
    ValidationSpec,
};
use weft_upstream::{PickContext, UpstreamError};

use crate::servers::Server;
use crate::support::{cluster, get, local, read, worker};

const IDENTITY: &str = "spiffe://mesh/ns/shop/sa/cart";

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn server_tls(authority: &CertifiedIssuer<'_, KeyPair>, alpn: &[&str]) -> Rc<ServerTls> {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(IDENTITY.try_into().unwrap())];
    let certificate = params.signed_by(&key, authority).unwrap();
    let chain =
        CertifiedChain::from_pem(certificate.pem().as_bytes(), key.serialize_pem().as_bytes());
    let mut spec = ServerTlsSpec::new(vec![chain.unwrap()]);
    spec.alpn = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Rc::new(ServerTls::new(&spec).unwrap())
}

fn client_tls(authority: &CertifiedIssuer<'_, KeyPair>, identity: &str) -> Arc<ClientTls> {
    let roots = TrustBundle::from_pem(authority.pem().as_bytes()).unwrap();
    let validation = ValidationSpec::new(roots, vec![SanMatcher::uri(identity)]);
    let spec = ClientTlsSpec { validation: Some(validation), ..ClientTlsSpec::default() };
    Arc::new(ClientTls::new(&spec).unwrap())
}

fn over_tls(tls: Arc<ClientTls>) -> impl FnOnce(&mut Cluster) {
    move |cluster| cluster.default_socket = UpstreamSocket::Tls(Slot::filled(tls))
}

#[test]
fn the_right_identity_is_spoken_to() {
    local(async {
        let authority = authority();
        let server = Server::tls(server_tls(&authority, &["http/1.1"])).await;
        let handle = cluster(&[server.address], over_tls(client_tls(&authority, IDENTITY)));
        let (_worker, cluster) = worker(&handle);
        let picked = cluster.pick(&PickContext::default()).unwrap();
        let answer = cluster.send(&picked, get("/")).await.unwrap();
        assert_eq!((answer.protocol, read(answer).await.as_str()), (Protocol::Http11, "0"));
        assert_eq!(handle.stats().ssl_handshake.value(), 1);
    });
}

#[test]
fn the_wrong_identity_is_not_spoken_to() {
    local(async {
        let authority = authority();
        let server = Server::tls(server_tls(&authority, &[])).await;
        let other = client_tls(&authority, "spiffe://mesh/ns/shop/sa/other");
        let handle = cluster(&[server.address], over_tls(other));
        let (_worker, cluster) = worker(&handle);
        let picked = cluster.pick(&PickContext::default()).unwrap();
        let error = cluster.send(&picked, get("/")).await.unwrap_err();
        assert!(error.error.is_connect_failure() && error.request.is_some());
        let reason = error.error.transport_failure().unwrap();
        assert!(reason.contains("CERTIFICATE_VERIFY_FAILED"), "{reason}");
        assert_eq!(handle.stats().ssl_connection_error.value(), 1);
        assert_eq!(server.arrived.get(), 0);
    });
}

#[test]
fn without_secrets_nothing_is_sent() {
    local(async {
        let slot = Slot::empty();
        let authority = authority();
        let server = Server::tls(server_tls(&authority, &[])).await;
        let socket = UpstreamSocket::Tls(slot.clone());
        let handle = cluster(&[server.address], |cluster| cluster.default_socket = socket);
        let (_worker, cluster) = worker(&handle);
        let picked = cluster.pick(&PickContext::default()).unwrap();
        let error = cluster.send(&picked, get("/")).await.unwrap_err().error;
        assert!(matches!(error, UpstreamError::SecretsNotReady), "{error}");
        slot.set(client_tls(&authority, IDENTITY));
        assert!(cluster.send(&picked, get("/")).await.is_ok());
    });
}

#[test]
fn alpn_decides_on_the_protocol_where_configured() {
    local(async {
        let authority = authority();
        for (alpn, protocol) in
            [(vec!["h2", "http/1.1"], Protocol::Http2), (vec!["http/1.1"], Protocol::Http11)]
        {
            let server = Server::tls(server_tls(&authority, &alpn)).await;
            let handle = cluster(&[server.address], |cluster| {
                over_tls(client_tls(&authority, IDENTITY))(cluster);
                cluster.protocol = ProtocolChoice::Auto;
            });
            let (_worker, cluster) = worker(&handle);
            let picked = cluster.pick(&PickContext::default()).unwrap();
            let (a, b) =
                tokio::join!(cluster.send(&picked, get("/")), cluster.send(&picked, get("/")));
            assert_eq!(a.unwrap().protocol, protocol);
            assert_eq!(b.unwrap().protocol, protocol);
        }
    });
}

#[test]
fn istios_protocol_names_are_offered_where_configured() {
    local(async {
        let authority = authority();
        for (alpn, choice) in
            [("istio-http/1.1", ProtocolChoice::Http1), ("istio-h2", ProtocolChoice::Http2)]
        {
            let server = Server::tls(server_tls(&authority, &[alpn])).await;
            let handle = cluster(&[server.address], |cluster| {
                over_tls(client_tls(&authority, IDENTITY))(cluster);
                cluster.protocol = choice;
                cluster.istio_alpn = true;
            });
            let (_worker, cluster) = worker(&handle);
            let picked = cluster.pick(&PickContext::default()).unwrap();
            let answer = cluster.send(&picked, get("/")).await.unwrap();
            assert_eq!(answer.head.status, 200);
            let mut stream = cluster.connect_tcp(&picked).await.unwrap();
            assert_eq!(stream.alpn(), None, "a TCP connection does not claim to be HTTP");
            tokio::io::AsyncWriteExt::shutdown(&mut stream).await.unwrap();
        }
    });
}
