//! `x-forwarded-client-cert` (`forward_client_cert_details`).

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::{HeaderMap, HeaderValue};
use weft_filter_api::{PeerFacts, TlsFacts};
use weft_model::{ForwardClientCert, ForwardClientCertMode};

use super::found::Found;
use crate::connection::HttpConnection;
use crate::names;

/// Characters in a line of PEM (RFC 7468).
const PEM_LINE: usize = 64;

/// Removes, forwards, appends or sets the header.
pub(super) fn forward(connection: &HttpConnection, headers: &mut HeaderMap, found: Found) {
    let settings = connection.manager.client_cert;
    let tls = connection.facts.tls.as_deref();
    let peer = tls.and_then(|tls| tls.peer.as_ref());
    let ours = || element(&settings, tls?, peer?);
    match settings.mode {
        ForwardClientCertMode::AlwaysForwardOnly => {}
        mode if mode == ForwardClientCertMode::Sanitize || peer.is_none() => {
            if found.has(Found::CLIENT_CERT) {
                headers.remove(names::X_FORWARDED_CLIENT_CERT);
            }
        }
        ForwardClientCertMode::Sanitize | ForwardClientCertMode::ForwardOnly => {}
        ForwardClientCertMode::SanitizeSet => set(headers, ours()),
        ForwardClientCertMode::AppendForward => append(headers, ours()),
    }
}

fn set(headers: &mut HeaderMap, element: Option<String>) {
    match element.and_then(|element| HeaderValue::try_from(element).ok()) {
        Some(value) => {
            headers.insert(names::X_FORWARDED_CLIENT_CERT, value);
        }
        None => {
            headers.remove(names::X_FORWARDED_CLIENT_CERT);
        }
    }
}

fn append(headers: &mut HeaderMap, element: Option<String>) {
    let Some(element) = element else { return };
    let known = headers.get_all(names::X_FORWARDED_CLIENT_CERT);
    let mut all: Vec<&str> = known.iter().filter_map(|value| value.to_str().ok()).collect();
    all.push(&element);
    set(headers, Some(all.join(",")));
}

/// One element: `By=…;Hash=…;Subject="…";URI=…`.
fn element(settings: &ForwardClientCert, tls: &TlsFacts, peer: &PeerFacts) -> Option<String> {
    let mut pairs = Vec::new();
    pairs.extend(tls.local_uri_sans.iter().map(|uri| format!("By={uri}")));
    if !peer.digest.is_empty() {
        pairs.push(format!("Hash={}", peer.digest));
    }
    if settings.cert
        && let Some(leaf) = peer.chain.first()
    {
        pairs.push(format!("Cert=\"{}\"", escaped_pem(&[leaf])));
    }
    if settings.chain && !peer.chain.is_empty() {
        let all: Vec<_> = peer.chain.iter().collect();
        pairs.push(format!("Chain=\"{}\"", escaped_pem(&all)));
    }
    if settings.subject {
        let subject = peer.subject.replace('\\', "\\\\").replace('"', "\\\"");
        pairs.push(format!("Subject=\"{subject}\""));
    }
    if settings.uri {
        pairs.extend(peer.uri_sans.iter().map(|uri| format!("URI={uri}")));
        if peer.uri_sans.is_empty() {
            pairs.push("URI=".to_owned());
        }
    }
    if settings.dns {
        pairs.extend(peer.dns_sans.iter().map(|name| format!("DNS={name}")));
    }
    (!pairs.is_empty()).then(|| pairs.join(";"))
}

/// Certificates as PEM, percent-encoded as in a URL.
fn escaped_pem(chain: &[&bytes::Bytes]) -> String {
    let mut out = String::new();
    for der in chain {
        let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
        let text = BASE64.encode(der);
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let (line, after) = rest.split_at(rest.len().min(PEM_LINE));
            pem.push_str(line);
            pem.push('\n');
            rest = after;
        }
        pem.push_str("-----END CERTIFICATE-----\n");
        for byte in pem.bytes() {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
                out.push(char::from(byte));
            } else {
                // Writing to a string does not fail.
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}
