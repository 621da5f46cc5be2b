//! PEM text → DER values, with errors that name the block.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustls_pki_types::pem::{self, PemObject, SectionKind};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

use crate::error::SpecError;

/// All certificates of a PEM text; at least one.
pub(crate) fn certificates(
    what: &'static str,
    text: &[u8],
) -> Result<Vec<CertificateDer<'static>>, SpecError> {
    let blocks = blocks(what, text)?;
    let wanted = blocks
        .iter()
        .filter(|(kind, _)| *kind == SectionKind::Certificate)
        .map(|(_, der)| CertificateDer::from(der.clone()))
        .collect::<Vec<_>>();
    if wanted.is_empty() {
        return Err(missing(what, "CERTIFICATE", &blocks));
    }
    Ok(wanted)
}

/// The first private key of a PEM text.
pub(crate) fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, SpecError> {
    let what = "private key";
    if text.windows(b"ENCRYPTED PRIVATE KEY".len()).any(|window| window == b"ENCRYPTED PRIVATE KEY")
    {
        return Err(SpecError::PrivateKey {
            reason: "it is encrypted; give an unencrypted key".to_owned(),
        });
    }
    let blocks = blocks(what, text)?;
    blocks
        .iter()
        .find_map(|(kind, der)| PrivateKeyDer::from_pem(*kind, der.clone()))
        .ok_or_else(|| missing(what, "PRIVATE KEY", &blocks))
}

/// All revocation lists of a PEM text; at least one.
pub(crate) fn revocation_lists(
    text: &[u8],
) -> Result<Vec<CertificateRevocationListDer<'static>>, SpecError> {
    let what = "certificate revocation list";
    let blocks = blocks(what, text)?;
    let wanted = blocks
        .iter()
        .filter(|(kind, _)| *kind == SectionKind::Crl)
        .map(|(_, der)| CertificateRevocationListDer::from(der.clone()))
        .collect::<Vec<_>>();
    if wanted.is_empty() {
        return Err(missing(what, "X509 CRL", &blocks));
    }
    Ok(wanted)
}

/// A certificate as a PEM block.
pub fn certificate_pem(certificate: &CertificateDer<'_>) -> String {
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut encoded = BASE64_STANDARD.encode(certificate);
    while !encoded.is_empty() {
        let rest = encoded.split_off(encoded.len().min(64));
        text.push_str(&encoded);
        text.push('\n');
        encoded = rest;
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}

type Block = (SectionKind, Vec<u8>);

fn blocks(what: &'static str, text: &[u8]) -> Result<Vec<Block>, SpecError> {
    Block::pem_slice_iter(text)
        .enumerate()
        .map(|(index, block)| {
            block.map_err(|error| SpecError::Pem { what, block: index + 1, reason: reason(&error) })
        })
        .collect()
}

fn reason(error: &pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { end_marker } => {
            format!("the line {} is missing", String::from_utf8_lossy(end_marker).trim_end())
        }
        pem::Error::IllegalSectionStart { line } => {
            format!("broken line {:?}", String::from_utf8_lossy(line))
        }
        other => other.to_string(),
    }
}

fn missing(what: &'static str, wanted: &'static str, blocks: &[Block]) -> SpecError {
    let found = if blocks.is_empty() {
        "no PEM block at all".to_owned()
    } else {
        let kinds = blocks.iter().map(|(kind, _)| format!("{kind:?}"));
        format!("only {}", kinds.collect::<Vec<_>>().join(", "))
    };
    SpecError::NoPemBlock { what, wanted, found }
}
