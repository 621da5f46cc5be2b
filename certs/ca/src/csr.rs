//! Signing requests: only the public key is taken from them, and only if it signed the request.

use rcgen::SubjectPublicKeyInfo;
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;

use crate::error::IssueError;

/// Shortest RSA key that is certified, in bits.
const MIN_RSA_BITS: usize = 2048;

/// The public key of a PEM encoded request whose signature is right. Names and extensions that the
/// request asks for are ignored: a certificate says what its caller proved, not what it wishes.
pub(crate) fn public_key(pem: &str) -> Result<SubjectPublicKeyInfo, IssueError> {
    let fail = |reason: String| IssueError::Request { reason };
    let der = CertificateSigningRequestDer::from_pem_slice(pem.as_bytes())
        .map_err(|error| fail(format!("no CERTIFICATE REQUEST in PEM: {error}")))?;
    let (_, request) = X509CertificationRequest::from_der(&der)
        .map_err(|error| fail(format!("it can't be read: {error}")))?;
    request
        .verify_signature()
        .map_err(|_| fail("its signature doesn't match its key".to_owned()))?;
    let key = &request.certification_request_info.subject_pki;
    if let Ok(PublicKey::RSA(rsa)) = key.parsed()
        && rsa.key_size() < MIN_RSA_BITS
    {
        return Err(fail(format!(
            "an RSA key of {} bits is too short, {MIN_RSA_BITS} are needed",
            rsa.key_size()
        )));
    }
    SubjectPublicKeyInfo::from_der(key.raw)
        .map_err(|error| fail(format!("this kind of key is not supported: {error}")))
}
