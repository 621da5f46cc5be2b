//! Issuers of tokens.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use http::request::Parts as RequestHead;
use http::{HeaderName, HeaderValue};
use serde_json::Value;
use weft_filter_api::StreamCx;
use weft_route::StringMatcher;

use super::NAMESPACE;
use super::claims::{ClaimToHeader, normalised};
use super::keys::KeySet;
use super::location::Location;
use super::remote::Remote;
use super::status::Status;
use super::token::Token;

/// Where a provider's keys are.
#[derive(Debug)]
pub(super) enum Keys {
    /// `local_jwks`
    Local(KeySet),
    /// `remote_jwks`
    Remote(Arc<Remote>),
}

impl Keys {
    fn verify(&self, token: &Token<'_>) -> Result<(), Status> {
        match self {
            Self::Local(keys) => keys.verify(token),
            Self::Remote(remote) => remote.keys().ok_or(Status::FetchFailed)?.verify(token),
        }
    }
}

/// `JwtProvider`
#[derive(Debug)]
pub(super) struct Provider {
    /// `issuer`; empty: any.
    pub(super) issuer: String,
    pub(super) audiences: Vec<String>,
    pub(super) subjects: Option<StringMatcher>,
    pub(super) require_expiration: bool,
    /// `max_lifetime`, seconds
    pub(super) max_lifetime: Option<f64>,
    /// `clock_skew_seconds`
    pub(super) skew: f64,
    pub(super) keys: Keys,
    pub(super) locations: Vec<Location>,
    pub(super) forward: bool,
    /// `forward_payload_header`, and whether it is padded.
    pub(super) payload_header: Option<(HeaderName, bool)>,
    pub(super) claims: Vec<ClaimToHeader>,
    /// `payload_in_metadata`
    pub(super) payload_field: Option<String>,
    /// `space_delimited_claims`
    pub(super) spaced: Vec<String>,
    /// `header_in_metadata`
    pub(super) header_field: Option<String>,
    /// `failed_status_in_metadata`
    pub(super) failure_field: Option<String>,
    pub(super) clear_route: bool,
}

impl Provider {
    /// Verifies every token of the request that stands where this provider's do; `audiences` take
    /// the place of the provider's own.
    pub(super) fn verify(
        &self,
        audiences: Option<&[String]>,
        cx: &mut StreamCx,
        head: &mut RequestHead,
    ) -> Result<(), Status> {
        for name in self.claims.iter().map(|claim| &claim.header) {
            head.headers.remove(name);
        }
        if let Some((name, _)) = &self.payload_header {
            head.headers.remove(name);
        }
        let found = self.locations.iter();
        let found: Vec<_> = found
            .flat_map(|place| place.tokens(head).into_iter().map(move |token| (place, token)))
            .collect();
        let result = if found.is_empty() { Err(Status::Missing) } else { Ok(()) };
        // One bad token is enough: what is behind might take just that one.
        let result = result.and_then(|()| {
            found.iter().try_for_each(|(place, text)| {
                let token = self.check(text, audiences.unwrap_or(&self.audiences))?;
                self.accept(&token, place, cx, head);
                Ok(())
            })
        });
        if let (Err(status), Some(field)) = (result, &self.failure_field) {
            let mut failure = serde_json::Map::new();
            if let Some(code) = status.code() {
                failure.insert("code".to_owned(), Value::from(code));
            }
            failure.insert("message".to_owned(), Value::from(status.text()));
            cx.annotate().set(NAMESPACE, field, failure);
        }
        result
    }

    fn check<'a>(&self, text: &'a str, audiences: &[String]) -> Result<Token<'a>, Status> {
        let token = Token::read(text)?;
        if !self.issuer.is_empty() && token.issuer() != self.issuer {
            return Err(Status::UnknownIssuer);
        }
        if let Some(subjects) = &self.subjects {
            let subject = token.payload.get("sub").and_then(Value::as_str).unwrap_or_default();
            if !subjects.matches(subject) {
                return Err(Status::SubjectNotAllowed);
            }
        }
        self.check_times(&token)?;
        let given = token.audiences();
        let allowed = |one: &&str| audiences.iter().any(|known| same_audience(known, one));
        if !audiences.is_empty() && !given.iter().any(allowed) {
            return Err(Status::AudienceNotAllowed);
        }
        self.keys.verify(&token)?;
        Ok(token)
    }

    fn check_times(&self, token: &Token<'_>) -> Result<(), Status> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let (expires, begins, issued) = (token.time("exp"), token.time("nbf"), token.time("iat"));
        if self.require_expiration && expires.is_none() {
            return Err(Status::NoExpiration);
        }
        if let Some(longest) = self.max_lifetime {
            let Some(expires) = expires else { return Err(Status::NoExpiration) };
            if expires - begins.or(issued).unwrap_or(now) > longest {
                return Err(Status::LivesTooLong);
            }
        }
        if begins.is_some_and(|begins| now + self.skew < begins) {
            return Err(Status::NotYetValid);
        }
        if expires.is_some_and(|expires| now > expires + self.skew) {
            return Err(Status::Expired);
        }
        Ok(())
    }

    /// Tells the upstream, other filters and logs what the token says.
    fn accept(
        &self,
        token: &Token<'_>,
        place: &Location,
        cx: &mut StreamCx,
        head: &mut RequestHead,
    ) {
        if let Some((name, padded)) = &self.payload_header {
            let mut payload = token.encoded_payload.to_owned();
            while *padded && !payload.len().is_multiple_of(4) {
                payload.push('=');
            }
            if let Ok(value) = HeaderValue::try_from(payload) {
                head.headers.append(name, value);
            }
        }
        for claim in &self.claims {
            claim.apply(&token.payload, head);
        }
        if !self.forward {
            place.remove(head);
        }
        if let Some(field) = &self.header_field {
            cx.annotate().set(NAMESPACE, field, token.header.clone());
        }
        if let Some(field) = &self.payload_field {
            cx.annotate().set(NAMESPACE, field, normalised(&token.payload, &self.spaced));
        }
        cx.route_changed |= self.clear_route;
    }
}

/// Audiences are compared without their scheme and a slash at the end, as in Envoy.
fn same_audience(a: &str, b: &str) -> bool {
    fn bare(audience: &str) -> &str {
        let audience = audience
            .strip_prefix("https://")
            .or(audience.strip_prefix("http://"))
            .unwrap_or(audience);
        audience.strip_suffix('/').unwrap_or(audience)
    }
    bare(a) == bare(b)
}
