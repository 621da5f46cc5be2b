//! Application protocols, server names, versions and resumption.

use crate::{
    ClientTlsSpec, SanMatcher, ServerTlsSpec, TlsError, TlsVersion, ValidationSpec, VerifyError,
};
use rcgen::SanType;
use time::{Duration, OffsetDateTime};

use super::{
    Authority, CLIENT_ID, Leaf, SERVER_ID, client, exchange, exchange_with, mutual_client,
    mutual_server, server,
};

fn protocols(names: &[&str]) -> Vec<Vec<u8>> {
    names.iter().map(|name| name.as_bytes().to_vec()).collect()
}

#[tokio::test]
async fn servers_preferred_common_protocol_is_selected() {
    let authority = Authority::new("root");
    let mut server_spec = mutual_server(&authority);
    server_spec.alpn = protocols(&["h2", "http/1.1"]);
    let mut client_spec = mutual_client(&authority);
    client_spec.alpn = protocols(&["http/1.1", "h2"]);
    let outcome = exchange(&client(&client_spec), &server(&server_spec)).await;
    assert_eq!(outcome.client.unwrap().alpn.as_deref(), Some(&b"h2"[..]));
    assert_eq!(outcome.server.unwrap().alpn.as_deref(), Some(&b"h2"[..]));
}

#[tokio::test]
async fn handshake_goes_on_without_a_common_protocol() {
    let authority = Authority::new("root");
    let mut server_spec = mutual_server(&authority);
    server_spec.alpn = protocols(&["h2", "http/1.1"]);
    let mut client_spec = mutual_client(&authority);
    client_spec.alpn = protocols(&["istio"]);
    let outcome = exchange(&client(&client_spec), &server(&server_spec)).await;
    assert_eq!(outcome.client.unwrap().alpn, None);
    assert_eq!(outcome.server.unwrap().alpn, None);
}

#[tokio::test]
async fn istio_peer_exchange_is_never_selected() {
    let authority = Authority::new("root");
    let list = protocols(&["istio-peer-exchange", "istio"]);
    let mut server_spec = mutual_server(&authority);
    server_spec.alpn = list.clone();
    let server = server(&server_spec);
    let without_alpn = server.config_for([&b"istio-peer-exchange"[..]].into_iter(), &[]);
    assert!(without_alpn.alpn_protocols.is_empty());
    let with_alpn = server.config_for(list.iter().map(Vec::as_slice), &[]);
    assert_eq!(with_alpn.alpn_protocols, protocols(&["istio"]));
    let client = client(&mutual_client(&authority));
    let outcome = exchange_with(&client, &server, None, Some(&list)).await;
    assert_eq!(outcome.server.unwrap().alpn.as_deref(), Some(&b"istio"[..]));
}

#[tokio::test]
async fn protocols_and_server_name_can_be_set_for_one_connection() {
    let authority = Authority::new("root");
    let mut server_spec = mutual_server(&authority);
    server_spec.alpn = protocols(&["h2", "http/1.1"]);
    let server = server(&server_spec);
    let client = client(&ClientTlsSpec {
        sni: Some("outbound_.80_._.web.default.svc.cluster.local".into()),
        alpn: protocols(&["h2"]),
        ..mutual_client(&authority)
    });
    let usual = exchange(&client, &server).await.server.unwrap();
    let name = usual.server_name.as_deref();
    assert_eq!(name, Some("outbound_.80_._.web.default.svc.cluster.local"));
    let other = protocols(&["http/1.1"]);
    let other = exchange_with(&client, &server, Some("other.test"), Some(&other)).await;
    let other = other.server.unwrap();
    assert_eq!(other.server_name.as_deref(), Some("other.test"));
    assert_eq!(other.alpn.as_deref(), Some(&b"http/1.1"[..]));
    let address = exchange_with(&client, &server, Some("127.0.0.1"), None).await;
    assert_eq!(address.server.unwrap().server_name, None);
}

#[tokio::test]
async fn second_connection_resumes_and_still_knows_its_peer() {
    for version in [TlsVersion::V1_3, TlsVersion::V1_2] {
        let authority = Authority::new("root");
        let mut spec = mutual_server(&authority);
        spec.max_version = Some(version);
        spec.alpn = protocols(&["h2", "http/1.1"]);
        let server = server(&spec);
        let client = client(&mutual_client(&authority));
        let first = exchange(&client, &server).await.server.unwrap();
        assert!(!first.resumed);
        // Another protocol list shares the remembered sessions.
        let list = protocols(&["h2"]);
        let outcome = exchange_with(&client, &server, None, Some(&list)).await;
        let second = outcome.server.unwrap();
        assert!(second.resumed, "{version}");
        assert!(outcome.client.unwrap().resumed);
        assert_eq!(second.version, Some(version));
        let digest = |handshake: &crate::Handshake| {
            let peer = handshake.peer.as_ref().unwrap();
            peer.sha256().to_owned()
        };
        assert_eq!(digest(&first), digest(&second));
    }
}

#[tokio::test]
async fn resumed_session_is_refused_once_the_certificate_has_expired() {
    let authority = Authority::new("root");
    let server = server(&mutual_server(&authority));
    let soon = OffsetDateTime::now_utc() + Duration::seconds(2);
    let short = authority.issue(&Leaf { not_after: soon, ..Leaf::uri(CLIENT_ID) });
    let client = client(&ClientTlsSpec { certificate: Some(short), ..mutual_client(&authority) });
    let mut resumed = 0;
    loop {
        let outcome = exchange(&client, &server).await;
        match outcome.server {
            Ok(handshake) => resumed += u32::from(handshake.resumed),
            Err(error) => {
                let expired = matches!(error, TlsError::Verify(VerifyError::Expired { .. }));
                assert!(expired, "{error}");
                break;
            }
        }
    }
    assert!(resumed > 0);
}

#[tokio::test]
async fn session_of_one_identity_does_not_pass_where_another_is_wanted() {
    let authority = Authority::new("root");
    let first = server(&mutual_server(&authority));
    let client = client(&mutual_client(&authority));
    exchange(&client, &first).await.server.unwrap();
    // The same server after its matchers have changed.
    let mut spec = mutual_server(&authority);
    let other = SanMatcher::uri("spiffe://td/ns/default/sa/other");
    spec.validation = Some(ValidationSpec::new(authority.bundle(), vec![other]));
    let outcome = exchange(&client, &server(&spec)).await;
    let error = outcome.server.unwrap_err();
    assert!(matches!(error, TlsError::Verify(VerifyError::NameMismatch { .. })), "{error}");
    // And after its roots have.
    let mut spec = mutual_server(&authority);
    let roots = Authority::new("another root").bundle();
    spec.validation = Some(ValidationSpec::new(roots, Vec::new()));
    let outcome = exchange(&client, &server(&spec)).await;
    let error = outcome.server.unwrap_err();
    assert!(matches!(error, TlsError::Verify(VerifyError::UntrustedIssuer)), "{error}");
}

#[tokio::test]
async fn peers_of_one_certificate_share_what_is_known_of_it() {
    let authority = Authority::new("root");
    let server = server(&mutual_server(&authority));
    let client = client(&ClientTlsSpec { session_resumption: false, ..mutual_client(&authority) });
    let first = exchange(&client, &server).await.server.unwrap().peer.unwrap();
    let second = exchange(&client, &server).await.server.unwrap().peer.unwrap();
    assert!(std::sync::Arc::ptr_eq(&first, &second));
}

#[tokio::test]
async fn nothing_is_resumed_after_a_change_or_when_switched_off() {
    let authority = Authority::new("root");
    let client = client(&mutual_client(&authority));
    exchange(&client, &server(&mutual_server(&authority))).await.server.unwrap();
    let rebuilt = server(&mutual_server(&authority));
    assert!(!exchange(&client, &rebuilt).await.server.unwrap().resumed);
    let off = server(&ServerTlsSpec { session_tickets: false, ..mutual_server(&authority) });
    exchange(&client, &off).await.server.unwrap();
    assert!(!exchange(&client, &off).await.server.unwrap().resumed);
}

#[tokio::test]
async fn certificate_is_chosen_by_server_name() {
    let authority = Authority::new("root");
    let certificates = ["first.test", "exact.example.com", "*.example.com"]
        .map(|name| authority.issue(&Leaf::dns(name)));
    let server = server(&ServerTlsSpec::new(certificates.to_vec()));
    let client = client(&ClientTlsSpec::default());
    for (asked, given) in [
        (Some("exact.example.com"), "exact.example.com"),
        (Some("EXACT.example.com"), "exact.example.com"),
        (Some("other.example.com"), "*.example.com"),
        (Some("a.b.example.com"), "first.test"),
        (Some("unknown.test"), "first.test"),
        (None, "first.test"),
    ] {
        let outcome = exchange_with(&client, &server, asked, None).await;
        let peer = outcome.client.unwrap().peer.unwrap();
        assert_eq!(peer.details().unwrap().dns_names().next(), Some(given), "{asked:?}");
    }
}

#[tokio::test]
async fn the_servers_order_of_ciphers_holds() {
    let authority = Authority::new("root");
    let server = server(&mutual_server(&authority));
    let mut client_spec = mutual_client(&authority);
    client_spec.max_version = Some(TlsVersion::V1_2);
    let offered = ["ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-GCM-SHA256"];
    client_spec.cipher_suites = Some(offered.map(str::to_owned).to_vec());
    let outcome = exchange(&client(&client_spec), &server).await;
    assert_eq!(outcome.server.unwrap().cipher, "ECDHE-ECDSA-AES128-GCM-SHA256");
}

#[test]
fn a_client_without_instructions_for_aes_has_its_way() {
    use rustls::CipherSuite as C;
    let server = server(&mutual_server(&Authority::new("root")));
    let at_random = C::Unknown(0x1a1a);
    for (suites, ours) in [
        (&[C::TLS13_AES_256_GCM_SHA384, C::TLS13_CHACHA20_POLY1305_SHA256][..], true),
        (&[C::TLS13_CHACHA20_POLY1305_SHA256, C::TLS13_AES_128_GCM_SHA256], false),
        (&[at_random, C::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256], false),
        (&[at_random], true),
    ] {
        let config = server.config_for(std::iter::empty(), suites);
        assert_eq!(config.ignore_client_order, ours, "{suites:?}");
    }
}

#[tokio::test]
async fn versions_and_ciphers_without_overlap_are_named() {
    let authority = Authority::new("root");
    let mut old = mutual_client(&authority);
    old.max_version = Some(TlsVersion::V1_2);
    old.cipher_suites = Some(vec!["ECDHE-ECDSA-AES256-GCM-SHA384".into()]);
    let agreed = exchange(&client(&old.clone()), &server(&mutual_server(&authority))).await;
    let agreed = agreed.server.unwrap();
    assert_eq!(agreed.cipher, "ECDHE-ECDSA-AES256-GCM-SHA384");
    assert_eq!(agreed.version.unwrap().to_string(), "TLSv1.2");
    let mut modern = mutual_server(&authority);
    modern.min_version = Some(TlsVersion::V1_3);
    let outcome = exchange(&client(&old), &server(&modern)).await;
    assert!(matches!(outcome.server, Err(TlsError::Incompatible(_))), "{:?}", outcome.server);
}

#[tokio::test]
async fn self_signed_authority_is_trusted_as_a_leaf_when_it_is_a_root() {
    let mut params = rcgen::CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(SERVER_ID.try_into().unwrap())];
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    let key = key.serialize_pem();
    let chain = crate::CertifiedChain::from_pem(pem.as_bytes(), key.as_bytes()).unwrap();
    let roots = crate::TrustBundle::from_pem(pem.as_bytes()).unwrap();
    let spec = ClientTlsSpec {
        validation: Some(ValidationSpec::new(roots, vec![])),
        ..ClientTlsSpec::default()
    };
    let outcome = exchange(&client(&spec), &server(&ServerTlsSpec::new(vec![chain]))).await;
    assert!(outcome.client.is_ok(), "{:?}", outcome.client);
}
