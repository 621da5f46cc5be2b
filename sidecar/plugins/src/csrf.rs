//! `csrf`: a token in a cookie that requests have to repeat in a header.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::header::SET_COOKIE;
use http::response::Parts as ResponseHead;
use http::{HeaderValue, Method};
use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::macros::format_description;

use crate::definition::{Context, Definition, decode};
use crate::exchange::{Answer, Exchange};
use crate::plugin::{Plugin, Step};
use crate::reply::Reply;
use crate::variables;

pub(crate) const DEFINITION: Definition = Definition::new(
    "csrf",
    2980,
    r#"{
        "type": "object",
        "properties": {
            "key": {"type": "string"},
            "expires": {"type": "integer", "default": 7200},
            "name": {"type": "string", "default": "apisix-csrf-token"}
        },
        "required": ["key"]
    }"#,
    compile,
);

#[derive(Debug, Deserialize)]
struct Csrf {
    key: String,
    /// Seconds; 0 and less: tokens do not expire.
    expires: i64,
    name: String,
}

fn compile(settings: &Value, _: &Context<'_>) -> Result<Arc<dyn Plugin>, String> {
    Ok(Arc::new(decode::<Csrf>(settings)?))
}

impl Plugin for Csrf {
    fn access(&self, exchange: &mut Exchange<'_>) -> Step {
        if [Method::GET, Method::HEAD, Method::OPTIONS].contains(&exchange.head.method) {
            return Step::Continue;
        }
        match self.check(exchange) {
            Ok(()) => Step::Continue,
            Err(message) => Reply::error_msg(401, message).into(),
        }
    }

    fn header_filter(&self, _: &mut Answer<'_>, head: &mut ResponseHead) {
        let now = now();
        let cookie = format!(
            "{}={};path=/;SameSite=Lax;Expires={}",
            self.name,
            self.token(now),
            cookie_time(now + self.expires)
        );
        if let Ok(cookie) = HeaderValue::try_from(cookie) {
            head.headers.append(SET_COOKIE, cookie);
        }
    }
}

impl Csrf {
    fn check(&self, exchange: &Exchange<'_>) -> Result<(), &'static str> {
        let header = exchange.header(&self.name).filter(|token| !token.is_empty());
        let header = header.ok_or("no csrf token in headers")?;
        let cookie = variables::cookie(&exchange.head.headers, &self.name);
        let cookie = cookie.ok_or("no csrf cookie")?;
        verify_slices_are_equal(header.as_bytes(), cookie.as_bytes())
            .map_err(|_| "csrf token mismatch")?;
        let fine = self.is_ours(cookie).unwrap_or(false);
        if fine { Ok(()) } else { Err("Failed to verify the csrf token signature") }
    }

    fn is_ours(&self, token: &str) -> Option<bool> {
        let json: Value = serde_json::from_slice(&BASE64_STANDARD.decode(token).ok()?).ok()?;
        let (random, made) = (json["random"].as_number()?, json["expires"].as_i64()?);
        if self.expires > 0 && now() - made > self.expires {
            return Some(false);
        }
        let sign = self.sign(&random.to_string(), made);
        let shown = json["sign"].as_str()?;
        Some(verify_slices_are_equal(sign.as_bytes(), shown.as_bytes()).is_ok())
    }

    fn token(&self, now: i64) -> String {
        let random = json!(fastrand::u32(..));
        let sign = self.sign(&random.to_string(), now);
        let token = json!({"random": random, "expires": now, "sign": sign});
        BASE64_STANDARD.encode(token.to_string())
    }

    fn sign(&self, random: &str, made: i64) -> String {
        let text = format!("{{expires:{made},random:{random},key:{}}}", self.key);
        let hash = digest(&SHA256, text.as_bytes());
        hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Unix seconds.
fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

fn cookie_time(seconds: i64) -> String {
    let format = format_description!(
        "[weekday repr:short], [day]-[month repr:short]-[year] [hour]:[minute]:[second] GMT"
    );
    let time = OffsetDateTime::from_unix_timestamp(seconds).ok();
    time.and_then(|time| time.format(&format).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Csrf, now};
    use crate::testing::Case;

    fn post(token: Option<&str>, cookie: Option<&str>) -> Case {
        let case = Case::new("csrf", json!({"key": "k"})).method("POST", "/");
        let case = match token {
            Some(token) => case.header("apisix-csrf-token", token),
            None => case,
        };
        match cookie {
            Some(cookie) => case.header("cookie", &format!("a=b; apisix-csrf-token={cookie}")),
            None => case,
        }
    }

    #[test]
    fn the_token_of_a_response_lets_the_next_request_in() {
        let mut outcome = Case::new("csrf", json!({"key": "k"})).get("/").run();
        outcome.passes();
        let reply = outcome.respond(200);
        let cookie = reply.header("set-cookie").expect("a cookie").to_owned();
        assert!(cookie.contains(";path=/;SameSite=Lax;Expires="), "{cookie}");
        let token =
            cookie.strip_prefix("apisix-csrf-token=").and_then(|rest| rest.split(';').next());
        post(token, token).run().passes();
    }

    #[test]
    fn other_requests_are_refused_with_the_reason() {
        let of_other = Csrf { key: "other".into(), expires: 60, name: String::new() };
        let foreign = of_other.token(now());
        let mine = Csrf { key: "k".into(), expires: 60, name: String::new() };
        let old = mine.token(now() - 7300);
        for (token, cookie, message) in [
            (None, None, "no csrf token in headers"),
            (Some("a"), None, "no csrf cookie"),
            (Some("a"), Some("b"), "csrf token mismatch"),
            (Some("a"), Some("a"), "Failed to verify the csrf token signature"),
            (Some(&*foreign), Some(&*foreign), "Failed to verify the csrf token signature"),
            (Some(&*old), Some(&*old), "Failed to verify the csrf token signature"),
        ] {
            let reply = post(token, cookie).run().replies(401);
            assert_eq!(reply.text(), format!("{{\"error_msg\":\"{message}\"}}\n"));
        }
    }
}
