//! Replies that plugins make, in the form that APISIX gives them.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::Value;
use weft_filter_api::LocalReply;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");

/// A reply in the making.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// `None`: the page that nginx would show.
    pub(crate) body: Option<Bytes>,
}

impl Reply {
    /// Without a body: nginx shows a page of its own for errors.
    pub(crate) fn status(status: u16) -> Self {
        Self { status: code(status), headers: HeaderMap::new(), body: None }
    }

    pub(crate) fn text(status: u16, body: impl Into<Bytes>) -> Self {
        Self { body: Some(body.into()), ..Self::status(status) }
    }

    /// A JSON body, in one line.
    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self::text(status, format!("{body}\n"))
    }

    /// `{"message": …}`
    pub(crate) fn message(status: u16, message: &str) -> Self {
        Self::json(status, &serde_json::json!({"message": message}))
    }

    /// `{"error_msg": …}`
    pub(crate) fn error_msg(status: u16, message: &str) -> Self {
        Self::json(status, &serde_json::json!({"error_msg": message}))
    }

    /// The usual rejection: a page without a message, else the message as `error_msg`.
    pub(crate) fn rejection(status: u16, message: Option<&str>) -> Self {
        message.map_or_else(|| Self::status(status), |text| Self::error_msg(status, text))
    }

    /// With a header; a value that can't be one is left out.
    pub(crate) fn with(mut self, name: HeaderName, value: impl AsRef<str>) -> Self {
        if let Ok(value) = HeaderValue::from_str(value.as_ref()) {
            self.headers.insert(name, value);
        }
        self
    }

    /// The reply as the connection manager takes it; `plugin` made it.
    pub(crate) fn into_local(self, plugin: &str, error_response: Option<&Bytes>) -> LocalReply {
        let mut headers = self.headers;
        let failed = self.status.as_u16() >= 400;
        let body = error_response.filter(|_| failed).cloned().or(self.body);
        let body = body.unwrap_or_else(|| {
            if !failed {
                return Bytes::new();
            }
            headers.entry(CONTENT_TYPE).or_insert(HTML);
            page(self.status)
        });
        if !body.is_empty() {
            headers.entry(CONTENT_TYPE).or_insert(TEXT);
        }
        let details = Cow::Owned(format!("plugin_{}", plugin.replace('-', "_")));
        LocalReply { status: self.status, headers, body, details }
    }
}

fn code(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

fn page(status: StatusCode) -> Bytes {
    let reason = match status.as_u16() {
        429 => "Too Many Requests",
        503 => "Service Temporarily Unavailable",
        504 => "Gateway Time-out",
        _ => status.canonical_reason().unwrap_or_default(),
    };
    let title = format!("{} {reason}", status.as_u16());
    let title = title.trim_end();
    format!(
        "<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n\
         <center><h1>{title}</h1></center>\r\n</body>\r\n</html>\r\n"
    )
    .into()
}
