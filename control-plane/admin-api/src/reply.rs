//! Answers.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use weft_store::Entry;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const SERVER: HeaderValue = HeaderValue::from_static(concat!("Weft/", env!("CARGO_PKG_VERSION")));

/// An answer before headers.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) content: Content,
    /// What the author should know although it went well.
    pub(crate) warning: Option<String>,
}

/// The body of an answer.
#[derive(Debug)]
pub(crate) enum Content {
    Json(Value),
    Text(String),
    Empty,
}

impl Reply {
    pub(crate) fn json(status: StatusCode, value: Value) -> Self {
        Self { status, content: Content::Json(value), warning: None }
    }

    pub(crate) fn ok(value: Value) -> Self {
        Self::json(StatusCode::OK, value)
    }

    pub(crate) fn empty(status: StatusCode) -> Self {
        Self { status, content: Content::Empty, warning: None }
    }

    pub(crate) fn text(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, content: Content::Text(text.into()), warning: None }
    }

    /// The envelope of a write: no indexes.
    pub(crate) fn written(status: StatusCode, key: &str, value: &Value) -> Self {
        Self::json(status, json!({"key": key, "value": value}))
    }
}

/// The envelope of a read.
pub(crate) fn envelope(entry: &Entry, value: &Value) -> Value {
    json!({
        "key": entry.key,
        "value": value,
        "createdIndex": entry.created,
        "modifiedIndex": entry.modified,
    })
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let body = match self.content {
            Content::Json(value) => Body::from(format!("{value}\n")),
            Content::Text(text) => Body::from(text),
            Content::Empty => Body::empty(),
        };
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, JSON);
        let warning = self.warning.map(|text| format!("299 weft \"{text}\""));
        if let Some(Ok(warning)) = warning.map(HeaderValue::try_from) {
            headers.insert(header::WARNING, warning);
        }
        headers.insert(HeaderName::from_static("x-api-version"), HeaderValue::from_static("v3"));
        response
    }
}

/// The headers of every answer.
pub(crate) fn common_headers(headers: &mut HeaderMap, cors: bool) {
    headers.insert(header::SERVER, SERVER);
    if cors {
        let all = HeaderValue::from_static("*");
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, all.clone());
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, all);
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("3600"));
    }
}

/// The answer to a browser that asks what it may send.
pub(crate) fn preflight() -> Response {
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(header::SERVER, SERVER);
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::ACCESS_CONTROL_ALLOW_METHODS, "POST, GET, PUT, OPTIONS, DELETE, PATCH"),
        (header::ACCESS_CONTROL_MAX_AGE, "3600"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "*"),
        (header::ACCESS_CONTROL_ALLOW_CREDENTIALS, "true"),
        (header::CONTENT_TYPE, "text/plain"),
        (header::CONTENT_LENGTH, "0"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
