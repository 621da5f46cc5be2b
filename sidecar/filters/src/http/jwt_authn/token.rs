//! A token, read but not yet believed (RFC 7519, RFC 7515).

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};

use super::status::Status;

/// A token's parts.
#[derive(Debug)]
pub(super) struct Token<'a> {
    pub(super) header: Map<String, Value>,
    pub(super) payload: Map<String, Value>,
    /// The payload as it stands in the token.
    pub(super) encoded_payload: &'a str,
    /// Header and payload with their dot: what is signed.
    pub(super) signed: &'a str,
    pub(super) signature: &'a str,
    pub(super) algorithm: Algorithm,
}

impl<'a> Token<'a> {
    pub(super) fn read(text: &'a str) -> Result<Self, Status> {
        let (signed, signature) = text.rsplit_once('.').ok_or(Status::BadFormat)?;
        let (header, encoded_payload) = signed.split_once('.').ok_or(Status::BadFormat)?;
        let empty = [header, encoded_payload, signature].iter().any(|part| part.is_empty());
        if empty || encoded_payload.contains('.') {
            return Err(Status::BadFormat);
        }
        let header = object(header, Status::HeaderBase64, Status::HeaderJson)?;
        let algorithm = header.get("alg").and_then(Value::as_str).ok_or(Status::HeaderAlg)?;
        let algorithm = algorithm.parse().map_err(|_| Status::HeaderAlgUnknown)?;
        if header.get("kid").is_some_and(|kid| !kid.is_string()) {
            return Err(Status::HeaderKid);
        }
        let payload = object(encoded_payload, Status::PayloadBase64, Status::PayloadJson)?;
        if payload.get("iss").is_some_and(|issuer| !issuer.is_string()) {
            return Err(Status::PayloadIssuer);
        }
        let times = [
            ("iat", Status::PayloadIssued),
            ("nbf", Status::PayloadBegins),
            ("exp", Status::PayloadExpires),
        ];
        for (claim, status) in times {
            if payload.get(claim).is_some_and(|time| !time.is_number()) {
                return Err(status);
            }
        }
        if payload.get("aud").is_some_and(|aud| !is_audience(aud)) {
            return Err(Status::PayloadAudience);
        }
        BASE64_URL_SAFE_NO_PAD.decode(signature).map_err(|_| Status::SignatureBase64)?;
        Ok(Self { header, payload, encoded_payload, signed, signature, algorithm })
    }

    pub(super) fn key_id(&self) -> Option<&str> {
        self.header.get("kid").and_then(Value::as_str)
    }

    pub(super) fn issuer(&self) -> &str {
        self.payload.get("iss").and_then(Value::as_str).unwrap_or_default()
    }

    /// A point in time, seconds since 1970.
    pub(super) fn time(&self, claim: &str) -> Option<f64> {
        self.payload.get(claim).and_then(Value::as_f64)
    }

    pub(super) fn audiences(&self) -> Vec<&str> {
        match self.payload.get("aud") {
            Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).collect(),
            Some(Value::String(one)) => vec![one],
            _ => Vec::new(),
        }
    }
}

fn is_audience(claim: &Value) -> bool {
    match claim {
        Value::String(_) => true,
        Value::Array(all) => all.iter().all(Value::is_string),
        _ => false,
    }
}

fn object(text: &str, base64: Status, json: Status) -> Result<Map<String, Value>, Status> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| base64)?;
    serde_json::from_slice(&bytes).map_err(|_| json)
}
