//! Who is believed, and what is said when someone is not.

use crate::{
    ClientTlsSpec, SanKind, SanMatcher, SanPattern, ServerTlsSpec, SpecError, TlsError,
    TrustBundle, ValidationSpec, VerifyError,
};
use time::{Duration, OffsetDateTime};
use tokio::io::{AsyncWriteExt, duplex};

use super::{
    Authority, CLIENT_ID, Leaf, SERVER_ID, client, exchange, exchange_with, mutual_client,
    mutual_server, server,
};

fn verify_error(result: Result<crate::Handshake, TlsError>) -> VerifyError {
    match result {
        Err(TlsError::Verify(reason)) => reason,
        other => panic!("expected a refused certificate, got {other:?}"),
    }
}

#[tokio::test]
async fn both_sides_see_each_others_identity() {
    let authority = Authority::new("root");
    let outcome =
        exchange(&client(&mutual_client(&authority)), &server(&mutual_server(&authority))).await;
    let at_server = outcome.server.unwrap().peer.unwrap();
    assert_eq!(at_server.spiffe_id().unwrap().as_str(), CLIENT_ID);
    assert_eq!(at_server.identity().spiffe_id.as_deref(), Some(CLIENT_ID));
    assert_eq!(at_server.sha256().len(), 64);
    let at_client = outcome.client.unwrap().peer.unwrap();
    assert_eq!(at_client.spiffe_id().unwrap().as_str(), SERVER_ID);
}

#[tokio::test]
async fn server_with_the_wrong_identity_is_refused_with_both_names() {
    let authority = Authority::new("root");
    let spec = ClientTlsSpec {
        validation: Some(ValidationSpec::new(
            authority.bundle(),
            vec![SanMatcher::uri("spiffe://td/ns/default/sa/other")],
        )),
        ..mutual_client(&authority)
    };
    let outcome = exchange(&client(&spec), &server(&mutual_server(&authority))).await;
    let error = outcome.client.unwrap_err();
    let reason = error.transport_failure_reason();
    assert!(reason.contains("CERTIFICATE_VERIFY_FAILED:verify cert failed: verify SAN list"));
    assert!(reason.contains(SERVER_ID), "{reason}");
    assert!(reason.contains("sa/other"), "{reason}");
    assert!(matches!(outcome.server, Err(TlsError::Refused(_))));
}

#[tokio::test]
async fn client_with_the_wrong_identity_is_refused() {
    let authority = Authority::new("root");
    let prefix = SanMatcher {
        kind: SanKind::Any,
        pattern: SanPattern::Prefix("spiffe://other/".into()),
        ignore_case: false,
    };
    let mut spec = mutual_server(&authority);
    spec.validation = Some(ValidationSpec::new(authority.bundle(), vec![prefix]));
    let outcome = exchange(&client(&mutual_client(&authority)), &server(&spec)).await;
    let reason = verify_error(outcome.server);
    assert!(matches!(reason, VerifyError::NameMismatch { .. }), "{reason}");
    assert!(matches!(outcome.client, Err(TlsError::Refused(_))));
}

#[tokio::test]
async fn certificate_of_another_authority_is_refused() {
    let (ours, theirs) = (Authority::new("root"), Authority::new("root"));
    let outcome = exchange(&client(&mutual_client(&ours)), &server(&mutual_server(&theirs))).await;
    assert_eq!(verify_error(outcome.client), VerifyError::UntrustedIssuer);
    let mut spec = mutual_client(&theirs);
    spec.validation = None;
    let outcome = exchange(&client(&spec), &server(&mutual_server(&ours))).await;
    assert_eq!(verify_error(outcome.server), VerifyError::UntrustedIssuer);
}

#[tokio::test]
async fn one_of_several_roots_is_enough() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let bundle = TrustBundle::from_pem((old.root_pem() + &new.root_pem()).as_bytes()).unwrap();
    let spec = ClientTlsSpec {
        validation: Some(ValidationSpec::new(bundle, vec![])),
        ..mutual_client(&new)
    };
    let outcome = exchange(&client(&spec), &server(&mutual_server(&new))).await;
    assert!(outcome.client.is_ok(), "{:?}", outcome.client);
}

#[tokio::test]
async fn client_without_certificate_is_refused_only_where_one_is_required() {
    let authority = Authority::new("root");
    let bare = || ClientTlsSpec { certificate: None, ..mutual_client(&authority) };
    let outcome = exchange(&client(&bare()), &server(&mutual_server(&authority))).await;
    assert!(matches!(outcome.server, Err(TlsError::NoPeerCertificate)));
    assert!(matches!(outcome.client, Err(TlsError::Refused(_))));

    let optional = ServerTlsSpec { require_client_certificate: false, ..mutual_server(&authority) };
    let outcome = exchange(&client(&bare()), &server(&optional)).await;
    assert!(outcome.server.unwrap().peer.is_none());
}

#[tokio::test]
async fn expired_and_not_yet_valid_certificates_are_refused() {
    let authority = Authority::new("root");
    let now = OffsetDateTime::now_utc();
    let mut leaf = Leaf::uri(SERVER_ID);
    (leaf.not_before, leaf.not_after) = (now - Duration::hours(2), now - Duration::hours(1));
    let expired = server(&ServerTlsSpec::new(vec![authority.issue(&leaf)]));
    let outcome = exchange(&client(&mutual_client(&authority)), &expired).await;
    let reason = verify_error(outcome.client);
    assert!(matches!(reason, VerifyError::Expired { .. }), "{reason}");

    (leaf.not_before, leaf.not_after) = (now + Duration::hours(1), now + Duration::hours(2));
    let future = server(&ServerTlsSpec::new(vec![authority.issue(&leaf)]));
    let outcome = exchange(&client(&mutual_client(&authority)), &future).await;
    let reason = verify_error(outcome.client);
    assert!(matches!(reason, VerifyError::NotYetValid { .. }), "{reason}");
}

#[tokio::test]
async fn any_of_several_names_may_match() {
    let authority = Authority::new("root");
    let leaf = Leaf::dns("web.example").and_uri("spiffe://td/ns/x/sa/y").and_uri(SERVER_ID);
    let spec = ServerTlsSpec::new(vec![authority.issue(&leaf)]);
    let outcome = exchange(&client(&mutual_client(&authority)), &server(&spec)).await;
    let peer = outcome.client.unwrap().peer.unwrap();
    assert_eq!(peer.details().unwrap().uris().count(), 2);
    assert!(peer.spiffe_id().is_none(), "two URI names are no SVID");
}

#[tokio::test]
async fn plaintext_peers_are_told_apart() {
    let authority = Authority::new("root");
    let (mut near, far) = duplex(4096);
    near.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let server = server(&mutual_server(&authority));
    let error = server.accept(far).await.unwrap_err();
    assert!(matches!(error, TlsError::NotTls), "{error:?}");

    let (mut near, far) = duplex(4096);
    near.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    let client = client(&mutual_client(&authority));
    let error = client.connect(far, None, None).await.unwrap_err();
    assert!(matches!(error, TlsError::NotTls), "{error:?}");
}

#[tokio::test]
async fn peer_that_closes_is_told_apart() {
    let authority = Authority::new("root");
    let (near, far) = duplex(4096);
    drop(near);
    let error = server(&mutual_server(&authority)).accept(far).await.unwrap_err();
    assert!(matches!(error, TlsError::Closed), "{error:?}");
}

#[tokio::test]
async fn intermediates_count_towards_the_depth() {
    let root = Authority::new("root");
    let middle = root.intermediate("middle");
    let spec = |max| ClientTlsSpec {
        validation: Some(ValidationSpec {
            max_verify_depth: Some(max),
            ..ValidationSpec::new(root.bundle(), vec![])
        }),
        ..ClientTlsSpec::default()
    };
    let leaf = middle.issue(&Leaf::uri(SERVER_ID));
    let server = server(&ServerTlsSpec::new(vec![leaf]));
    assert!(exchange(&client(&spec(2)), &server).await.client.is_ok());
    let reason = verify_error(exchange(&client(&spec(1)), &server).await.client);
    assert_eq!(reason, VerifyError::TooDeep { depth: 2, max: 1 });
}

#[tokio::test]
async fn pinned_hash_replaces_or_restricts_the_roots() {
    let authority = Authority::new("root");
    let server = server(&mutual_server(&authority));
    let unverified = ClientTlsSpec { validation: None, ..mutual_client(&authority) };
    let seen = exchange(&client(&unverified), &server).await.client.unwrap();
    let pinned = |hash: &str| ClientTlsSpec {
        validation: Some(ValidationSpec {
            certificate_hashes: vec![hash.to_owned()],
            ..ValidationSpec::default()
        }),
        ..mutual_client(&authority)
    };
    let right = client(&pinned(seen.peer.unwrap().sha256()));
    assert!(exchange(&right, &server).await.client.is_ok());
    let wrong = client(&pinned(&"00".repeat(32)));
    let reason = verify_error(exchange(&wrong, &server).await.client);
    assert_eq!(reason, VerifyError::HashMismatch);
}

#[tokio::test]
async fn untrusted_certificates_pass_where_any_is_accepted() {
    let (ours, theirs) = (Authority::new("a"), Authority::new("b"));
    let mut spec = mutual_server(&ours);
    spec.validation = Some(ValidationSpec {
        trust_any: true,
        ..ValidationSpec::new(ours.bundle(), vec![SanMatcher::dns("x")])
    });
    let mut foreign = mutual_client(&theirs);
    foreign.validation = None;
    assert!(exchange(&client(&foreign), &server(&spec)).await.server.is_ok());
}

#[test]
fn only_servers_that_judge_clients_say_so() {
    let authority = Authority::new("root");
    let spec = mutual_server(&authority);
    assert!(server(&spec).verifies_clients());
    let without = |validation| ServerTlsSpec { validation, ..spec.clone() };
    assert!(!server(&without(None)).verifies_clients());
    let any = ValidationSpec { trust_any: true, ..ValidationSpec::new(authority.bundle(), vec![]) };
    assert!(!server(&without(Some(any))).verifies_clients());
    assert!(!server(&without(Some(ValidationSpec::default()))).verifies_clients());
}

#[tokio::test]
async fn server_name_is_checked_only_when_asked_for() {
    let authority = Authority::new("root");
    let leaf = authority.issue(&Leaf::dns("*.example.com"));
    let server = server(&ServerTlsSpec::new(vec![leaf]));
    let spec = |match_server_name| ClientTlsSpec {
        validation: Some(ValidationSpec::new(authority.bundle(), vec![])),
        match_server_name,
        ..ClientTlsSpec::default()
    };
    let strict = client(&spec(true));
    let lax = client(&spec(false));
    let other = exchange_with(&lax, &server, Some("other.test"), None).await;
    assert_eq!(other.server.unwrap().server_name.as_deref(), Some("other.test"));
    let right = exchange_with(&strict, &server, Some("a.example.com"), None).await;
    assert!(right.client.is_ok());
    let wrong = exchange_with(&strict, &server, Some("other.test"), None).await;
    assert!(matches!(verify_error(wrong.client), VerifyError::NameMismatch { .. }));
}

#[test]
fn key_of_another_certificate_is_refused() {
    let authority = Authority::new("root");
    let (chain, _) = authority.issue_parts(&Leaf::uri(SERVER_ID));
    let (_, key) = authority.issue_parts(&Leaf::uri(SERVER_ID));
    let error = crate::CertifiedChain::from_der(chain, key).unwrap_err();
    assert!(matches!(error, SpecError::KeyMismatch { .. }));
    assert!(error.to_string().contains(SERVER_ID), "{error}");
}

#[test]
fn broken_pem_names_the_block() {
    let pem = Authority::new("root").root_pem();
    let broken = pem.clone() + "-----BEGIN CERTIFICATE-----\nAAAA\n";
    let error = TrustBundle::from_pem(broken.as_bytes()).unwrap_err();
    assert!(error.to_string().contains("PEM block 2"), "{error}");
    let error = TrustBundle::from_pem(b"no pem").unwrap_err();
    assert!(error.to_string().contains("no PEM block at all"), "{error}");
    let error = crate::CertifiedChain::from_pem(pem.as_bytes(), pem.as_bytes()).unwrap_err();
    assert!(error.to_string().contains("only Certificate"), "{error}");
}
