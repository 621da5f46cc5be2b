//! `envoy.filters.http.basic_auth`: names and passwords (RFC 7617).

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::WWW_AUTHENTICATE;
use http::request::Parts as RequestHead;
use http::{HeaderName, HeaderValue, StatusCode};
use weft_filter_api::{Flow, HttpFilter, LocalReply, RouteFilterConfig, StreamCx};
use weft_telemetry::Counter;

use crate::view::request_view;

pub(crate) mod config;
#[cfg(test)]
mod tests;

const MISSING: (&str, &str) = (
    "User authentication failed. Missing username and password.",
    "no_credential_found_in_request",
);
const WRONG: (&str, &str) = (
    "User authentication failed. Invalid username/password combination.",
    "invalid_credential_for_basic_auth",
);

/// Names and the SHA-1 of their passwords.
pub(crate) type Users = HashMap<String, Vec<u8>>;

/// `BasicAuth`, compiled; a route's users take the place of the filter's.
#[derive(Debug)]
pub(crate) struct BasicAuth {
    users: Arc<UserList>,
    /// `forward_username_header`
    forward: Option<HeaderName>,
    /// `authentication_header`
    header: HeaderName,
    /// `allow_missing`
    allow_missing: bool,
    allowed: Counter,
    denied: Counter,
}

/// Users; their passwords are not to be shown.
pub(crate) struct UserList(Users);

impl std::fmt::Debug for UserList {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl UserList {
    fn knows(&self, name: &str, password: &str) -> bool {
        let given = digest(&SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes());
        // Who is not known takes as long.
        let known = self.0.get(name).map_or(&[0; 20][..], Vec::as_slice);
        verify_slices_are_equal(given.as_ref(), known).is_ok() && self.0.contains_key(name)
    }
}

impl HttpFilter for BasicAuth {
    fn request<'a>(
        &'a self,
        _: &'a mut StreamCx,
        head: &'a mut RequestHead,
        route: Option<&'a RouteFilterConfig>,
    ) -> Flow<'a> {
        let users = route.and_then(|route| route.downcast_ref::<UserList>());
        let users = users.unwrap_or(&self.users);
        let Some(given) = head.headers.get(&self.header).filter(|given| !given.is_empty()) else {
            if self.allow_missing {
                self.allowed.inc();
                return Flow::Continue;
            }
            return Flow::Reply(self.refuse(head, MISSING));
        };
        let Some(encoded) = scheme_removed(given) else {
            return Flow::Reply(self.refuse(head, MISSING));
        };
        let decoded = BASE64_STANDARD.decode(encoded).ok();
        let decoded = decoded.and_then(|both| String::from_utf8(both).ok());
        let both = decoded.as_deref().and_then(|both| both.split_once(':'));
        let Some((name, _)) = both.filter(|(name, password)| users.knows(name, password)) else {
            return Flow::Reply(self.refuse(head, WRONG));
        };
        if let Some(header) = &self.forward
            && let Ok(name) = HeaderValue::from_str(name)
        {
            head.headers.insert(header, name);
        }
        self.allowed.inc();
        Flow::Continue
    }
}

/// What stands behind `Basic`.
fn scheme_removed(value: &HeaderValue) -> Option<&str> {
    let value = value.to_str().ok()?;
    let (scheme, rest) = value.split_at_checked(6)?;
    scheme.eq_ignore_ascii_case("basic ").then(|| rest.trim())
}

impl BasicAuth {
    fn refuse(
        &self,
        head: &RequestHead,
        (body, details): (&'static str, &'static str),
    ) -> LocalReply {
        self.denied.inc();
        let mut reply = LocalReply::text(StatusCode::UNAUTHORIZED, body, details);
        let view = request_view(head);
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        let realm = format!("Basic realm=\"{}://{}{path}\"", view.scheme, view.authority);
        if let Ok(realm) = HeaderValue::try_from(realm) {
            reply.headers.insert(WWW_AUTHENTICATE, realm);
        }
        reply
    }
}
