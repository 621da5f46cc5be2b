//! Certificate revocation lists.

use crate::{ServerTlsSpec, TlsError, ValidationSpec, VerifyError};

use super::{Authority, client, exchange, mutual_client, mutual_server, server};

fn server_with(authority: &Authority, crls: Vec<Vec<u8>>) -> ServerTlsSpec {
    ServerTlsSpec {
        validation: Some(ValidationSpec {
            crls,
            ..ValidationSpec::new(authority.bundle(), vec![])
        }),
        ..mutual_server(authority)
    }
}

#[tokio::test]
async fn revoked_certificates_are_refused_and_others_pass() {
    let authority = Authority::new("root");
    let other = server(&server_with(&authority, vec![authority.revoke(&[8])]));
    let outcome = exchange(&client(&mutual_client(&authority)), &other).await;
    assert!(outcome.server.is_ok(), "{:?}", outcome.server);
    let same = server(&server_with(&authority, vec![authority.revoke(&[7, 8])]));
    let outcome = exchange(&client(&mutual_client(&authority)), &same).await;
    assert!(
        matches!(outcome.server, Err(TlsError::Verify(VerifyError::Revoked))),
        "{:?}",
        outcome.server
    );
}

#[tokio::test]
async fn certificate_that_no_list_covers_is_refused() {
    let authority = Authority::new("root");
    let foreign = Authority::new("other").revoke(&[]);
    let server = server(&server_with(&authority, vec![foreign]));
    let outcome = exchange(&client(&mutual_client(&authority)), &server).await;
    assert!(matches!(outcome.server, Err(TlsError::Verify(VerifyError::UnknownRevocationStatus))));
}

#[test]
fn text_that_is_no_list_is_refused() {
    let authority = Authority::new("root");
    let spec = server_with(&authority, vec![authority.root_pem().into_bytes()]);
    let error = crate::ServerTls::new(&spec).unwrap_err();
    assert!(error.to_string().contains("X509 CRL"), "{error}");
}
