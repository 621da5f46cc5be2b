//! A request taken apart: path segments, query, JSON body.

use std::time::Duration;

use axum::body::Body;
use http::{HeaderMap, Method, Uri, header};
use percent_encoding::percent_decode_str;
use serde_json::Value;

use crate::error::AdminError;

/// The most bytes of a body: 1.5 MiB.
const MAX_BODY: usize = 1_572_864;

/// What a handler gets.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: Method,
    /// After `/apisix/admin` or `/weft/admin`, decoded, empty ones left out.
    pub(crate) segments: Vec<String>,
    pub(crate) query: Query,
    pub(crate) body: Option<Value>,
}

/// The query's parameters; of several with one name the first counts.
#[derive(Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(text: &str) -> Self {
        Self(form_urlencoded::parse(text.as_bytes()).into_owned().collect())
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find_map(|(key, value)| (key == name).then_some(value.as_str()))
    }

    /// Every parameter; of several with one name the last comes last.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// `ttl` in seconds.
    pub(crate) fn ttl(&self) -> Result<Option<Duration>, AdminError> {
        let Some(text) = self.get("ttl") else {
            return Ok(None);
        };
        let error = || AdminError::invalid("invalid argument ttl: should be a number");
        let seconds: f64 = text.trim().parse().map_err(|_| error())?;
        match Duration::try_from_secs_f64(seconds) {
            Ok(ttl) if !ttl.is_zero() => Ok(Some(ttl)),
            _ => Err(AdminError::invalid("invalid argument ttl: should be more than 0 seconds")),
        }
    }
}

/// The parts of a path below `prefix`.
pub(crate) fn segments(uri: &Uri, prefix: &str) -> Vec<String> {
    let rest = uri.path().strip_prefix(prefix).unwrap_or_default();
    let parts = rest.split('/').filter(|part| !part.is_empty());
    parts.map(|part| percent_decode_str(part).decode_utf8_lossy().into_owned()).collect()
}

/// Reads the body as JSON; nothing if it is empty.
pub(crate) async fn read_body(
    headers: &HeaderMap,
    body: Body,
) -> Result<Option<Value>, AdminError> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    if let Some(size) = announced.and_then(|text| text.parse::<usize>().ok())
        && size > MAX_BODY
    {
        return Err(AdminError::Body(too_large(&size.to_string())));
    }
    let bytes = axum::body::to_bytes(body, MAX_BODY).await;
    let bytes = bytes.map_err(|_| AdminError::Body(too_large("of a body without length")))?;
    if bytes.is_empty() {
        return Ok(None);
    }
    serde_json::from_slice(&bytes).map(Some).map_err(|error| AdminError::Json {
        reason: error.to_string(),
        body: String::from_utf8_lossy(&bytes).into_owned(),
    })
}

fn too_large(size: &str) -> String {
    format!("request size {size} is greater than the maximum size {MAX_BODY} allowed")
}
