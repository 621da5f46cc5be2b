//! Refusals, with APISIX's statuses and bodies.

use http::StatusCode;
use serde_json::{Value, json};
use weft_store::StoreError;

use crate::reply::{Content, Reply};

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdminError {
    #[error("{0}")]
    Unauthorized(&'static str),
    /// A path of a resource that doesn't exist here.
    #[error("Unsupported resource type: {0}")]
    UnsupportedResource(String),
    /// A method that the resource doesn't have.
    #[error("not found")]
    NoHandler,
    /// A key that isn't stored.
    #[error("Key not found")]
    KeyNotFound,
    /// A method that the path doesn't take, with the whole message.
    #[error("{0}")]
    Method(String),
    /// A name that is known to nobody, with the whole message.
    #[error("{0}")]
    Unknown(String),
    /// A body that is too large or can't be read.
    #[error("invalid request body: {0}")]
    Body(String),
    /// A body that is no JSON.
    #[error("invalid request body: {reason}")]
    Json { reason: String, body: String },
    /// Anything wrong with the request, with the whole message.
    #[error("{0}")]
    Invalid(String),
    #[error("page_size must be between 10 and 500")]
    PageSize,
    #[error("{0}")]
    Store(#[from] StoreError),
}

impl AdminError {
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(message.into())
    }

    /// A message of the schema or of the typed view.
    pub(crate) fn configuration(message: impl std::fmt::Display) -> Self {
        Self::Invalid(format!("invalid configuration: {message}"))
    }
}

impl From<AdminError> for Reply {
    fn from(error: AdminError) -> Self {
        let message = error.to_string();
        let status = match error {
            AdminError::Unauthorized(_) => StatusCode::UNAUTHORIZED,
            AdminError::UnsupportedResource(_)
            | AdminError::NoHandler
            | AdminError::KeyNotFound
            | AdminError::Unknown(_) => StatusCode::NOT_FOUND,
            AdminError::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            AdminError::Body(_)
            | AdminError::Json { .. }
            | AdminError::Invalid(_)
            | AdminError::PageSize => StatusCode::BAD_REQUEST,
            // In standalone mode APISIX has no way to write a single resource.
            AdminError::Store(StoreError::ReadOnly(_)) => StatusCode::NOT_FOUND,
            AdminError::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self { status, content: content(error, &message), warning: None }
    }
}

fn content(error: AdminError, message: &str) -> Content {
    Content::Json(match error {
        AdminError::Unauthorized(description) => {
            json!({"error_msg": "failed to check token", "description": description})
        }
        AdminError::KeyNotFound => json!({ "message": message }),
        AdminError::Json { body, .. } => json!({"error_msg": message, "req_body": body}),
        AdminError::PageSize => return Content::Text(message.to_owned()),
        _ => Value::from_iter([("error_msg", message)]),
    })
}
