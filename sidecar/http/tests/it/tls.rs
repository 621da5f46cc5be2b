//! TLS on both sides.

use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
    SanType,
};
use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weft_model::{
    ForwardClientCert, ForwardClientCertMode, ProtocolChoice, Slot, TransportSocket, UpstreamSocket,
};
use weft_tls::{
    CertifiedChain, ClientTls, ClientTlsSpec, ServerTls, ServerTlsSpec, TrustBundle, ValidationSpec,
};

use crate::server::{self, Local, header};
use crate::world::{Setup, local};

const CLIENT: &str = "spiffe://td/ns/default/sa/client";
const SERVER: &str = "spiffe://td/ns/default/sa/server";

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "root");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    fn issue(&self, id: &str) -> CertifiedChain {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        CertifiedChain::from_der(vec![certificate.der().clone()], key).unwrap()
    }

    fn validation(&self) -> Option<ValidationSpec> {
        let roots = TrustBundle::from_der(vec![self.0.der().clone()]).unwrap();
        Some(ValidationSpec { roots: Some(roots), ..ValidationSpec::default() })
    }

    fn server(&self, alpn: &[&str]) -> Arc<ServerTls> {
        let mut spec = ServerTlsSpec::new(vec![self.issue(SERVER)]);
        spec.validation = self.validation();
        spec.require_client_certificate = true;
        spec.alpn = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(ServerTls::new(&spec).unwrap())
    }

    fn client(&self, alpn: &[&str]) -> Arc<ClientTls> {
        let spec = ClientTlsSpec {
            certificate: Some(self.issue(CLIENT)),
            validation: self.validation(),
            alpn: alpn.iter().map(|name| name.as_bytes().to_vec()).collect(),
            ..ClientTlsSpec::default()
        };
        Arc::new(ClientTls::new(&spec).unwrap())
    }
}

#[test]
fn a_callers_certificate_is_told_to_the_upstream() {
    local(async {
        let authority = Authority::new();
        let mut setup = Setup::to(server::echo_head().await);
        setup.transport = TransportSocket::Tls(Slot::filled(authority.server(&["http/1.1"])));
        setup.manager.client_cert = ForwardClientCert {
            mode: ForwardClientCertMode::AppendForward,
            subject: true,
            uri: true,
            dns: true,
            ..ForwardClientCert::default()
        };
        let world = setup.start().await;
        let stream = TcpStream::connect(world.address).await.unwrap();
        let client = authority.client(&["http/1.1"]);
        let mut stream = client.connect(stream, None, None).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let told = header(&answer, "x-forwarded-client-cert").unwrap();
        assert!(told.starts_with(&format!("By={SERVER};Hash=")), "{told}");
        assert!(told.ends_with(&format!("Subject=\"\";URI={CLIENT}")), "{told}");
        assert_eq!(header(&answer, "x-forwarded-proto"), Some("https"));
        assert_eq!(world.listener.ssl_handshake.value(), 1);
    });
}

#[test]
fn a_plaintext_client_is_refused_where_tls_is_demanded() {
    local(async {
        let authority = Authority::new();
        let mut setup = Setup::to(server::echo_head().await);
        setup.transport = TransportSocket::Tls(Slot::filled(authority.server(&[])));
        let world = setup.start().await;
        let mut client = crate::client::Client::connect(world.address).await;
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let rest = client.rest().await;
        assert!(!rest.starts_with(b"HTTP/"), "{rest:?}");
        assert_eq!(world.listener.ssl_connection_error.value(), 1);
        assert_eq!(world.stats.cx_total.value(), 0);
    });
}

#[test]
fn a_chain_without_its_secrets_refuses_connections() {
    local(async {
        let mut setup = Setup::to(server::echo_head().await);
        setup.transport = TransportSocket::Tls(Slot::empty());
        let world = setup.start().await;
        assert!(crate::client::Client::connect(world.address).await.rest().await.is_empty());
    });
}

/// Two proxies, one behind the other, as a sidecar pair: plain, mTLS, plain.
#[test]
fn http2_is_spoken_over_mutual_tls_between_two_proxies() {
    local(async {
        let authority = Authority::new();
        let mut inner = Setup::to(server::http2_echo().await);
        inner.clusters.get_mut("upstream").unwrap().0.protocol = ProtocolChoice::Http2;
        let slot = Slot::filled(authority.server(&["istio-h2", "h2"]));
        inner.transport = TransportSocket::Tls(slot);
        let inner = inner.start().await;
        let mut outer = Setup::to(inner.address);
        let cluster = &mut outer.clusters.get_mut("upstream").unwrap().0;
        cluster.protocol = ProtocolChoice::Http2;
        let slot = Slot::filled(authority.client(&["h2"]));
        cluster.default_socket = UpstreamSocket::Tls(slot);
        let outer = outer.start().await;
        let mut sender = crate::client::http2(outer.address).await;
        for _ in 0..3 {
            let request = Request::get("http://service/x").body(Empty::<Bytes>::new()).unwrap();
            let response = crate::client::send(&mut sender, request).await;
            assert_eq!(response.status(), 200);
            response.into_body().collect().await.unwrap();
        }
        assert_eq!(inner.listener.ssl_handshake.value(), 1);
        assert_eq!(inner.stats.cx_http2_total.value(), 1);
        assert_eq!(inner.stats.rq_2xx.value(), 3);
    });
}

#[test]
fn alpn_chooses_the_codec() {
    local(async {
        let authority = Authority::new();
        let mut setup = Setup::to(server::echo_head().await);
        let slot = Slot::filled(authority.server(&["h2", "http/1.1"]));
        setup.transport = TransportSocket::Tls(slot);
        let world = setup.start().await;
        let stream = TcpStream::connect(world.address).await.unwrap();
        let stream = authority.client(&["h2"]).connect(stream, None, None).await.unwrap();
        let builder = hyper::client::conn::http2::Builder::new(Local);
        let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
        tokio::task::spawn_local(async move { drop(connection.await) });
        let request = Request::get("https://service/").body(Empty::<Bytes>::new()).unwrap();
        let response = crate::client::send(&mut sender, request).await;
        assert_eq!(response.status(), 200);
        assert_eq!(world.stats.cx_http2_total.value(), 1);
        // A client that offers nothing that is known is served by its first bytes.
        let stream = TcpStream::connect(world.address).await.unwrap();
        let client = authority.client(&["istio"]);
        let mut stream = client.connect(stream, None, None).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    });
}
