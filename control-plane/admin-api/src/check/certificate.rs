//! Certificates and private keys.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;

use super::Checked;
use crate::error::AdminError;

/// Checks the certificates of an ssl that the schema found valid.
pub(super) fn ssl(ssl: &Value) -> Checked {
    let text = |name| ssl.get(name).and_then(Value::as_str).unwrap_or_default();
    pair(text("cert"), text("key")).map_err(AdminError::Invalid)?;
    if text("type") == "client" {
        return Ok(());
    }
    let list = |name| ssl.get(name).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let (certs, keys) = (list("certs"), list("keys"));
    if certs.len() != keys.len() {
        return Err(AdminError::invalid("mismatched number of certs and keys"));
    }
    for (index, (cert, key)) in certs.iter().zip(keys).enumerate() {
        let (cert, key) = (cert.as_str().unwrap_or_default(), key.as_str().unwrap_or_default());
        pair(cert, key).map_err(|error| {
            let message = format!("failed to handle cert-key pair[{}]: {error}", index + 1);
            AdminError::Invalid(message)
        })?;
    }
    if let Some(ca) = ssl.pointer("/client/ca").and_then(Value::as_str) {
        chain(ca).map_err(|error| {
            AdminError::invalid(format!("failed to validate client_cert: {error}"))
        })?;
    }
    Ok(())
}

/// A certificate chain and the key that belongs to its first certificate.
///
/// # Errors
/// The whole message.
pub(super) fn pair(cert: &str, key: &str) -> Result<(), String> {
    let chain = chain(cert)?;
    if is_reference(key) {
        return Err(format!("failed to parse key: {REFERENCES}"));
    }
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
        .map_err(|_| "failed to parse key: PEM_read_bio_PrivateKey() failed".to_owned())?;
    let key = any_supported_type(&key)
        .map_err(|_| "failed to parse key: neither RSA, ECDSA nor Ed25519".to_owned())?;
    match CertifiedKey::new(chain, Arc::clone(&key)).keys_match() {
        // Some key types can't be compared; a handshake would tell.
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(()),
        Err(_) => Err("failed to parse key: the key does not belong to the cert".to_owned()),
    }
}

const REFERENCES: &str = "references ($secret://, $env://) are not supported, give the PEM";

fn chain(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    if is_reference(pem) {
        return Err(format!("failed to parse cert: {REFERENCES}"));
    }
    let failed = || "failed to parse cert: PEM_read_bio_X509_AUX() failed".to_owned();
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let chain = chain.map_err(|_| failed())?;
    let first = chain.first().ok_or_else(failed)?;
    rustls::server::ParsedCertificate::try_from(first).map_err(|_| failed())?;
    Ok(chain)
}

fn is_reference(text: &str) -> bool {
    text.starts_with('$')
}
