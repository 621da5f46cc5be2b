//! `basic-auth`: a user name and a password (RFC 7617) say who asks.

use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use serde::Deserialize;
use serde_json::Value;

use crate::auth::{self, Denied};
use crate::consumers::Credential;
use crate::definition::{Context, Definition, decode};
use crate::exchange::Exchange;
use crate::plugin::{Plugin, Step};

pub(crate) const DEFINITION: Definition = Definition::new(
    "basic-auth",
    2520,
    r#"{
        "type": "object",
        "properties": {
            "hide_credentials": {"type": "boolean", "default": false},
            "realm": {"type": "string", "pattern": "^[^\"\\\\]+$", "default": "basic"},
            "anonymous_consumer": {"type": "string", "minLength": 1}
        }
    }"#,
    compile,
)
.with_consumers(
    r#"{
        "type": "object",
        "properties": {"username": {"type": "string"}, "password": {"type": "string"}},
        "required": ["username", "password"]
    }"#,
    "username",
);

#[derive(Debug, Deserialize)]
struct BasicAuth {
    hide_credentials: bool,
    realm: String,
    anonymous_consumer: Option<String>,
}

fn compile(settings: &Value, _: &Context<'_>) -> Result<Arc<dyn Plugin>, String> {
    Ok(Arc::new(decode::<BasicAuth>(settings)?))
}

impl Plugin for BasicAuth {
    fn rewrite(&self, exchange: &mut Exchange<'_>) -> Step {
        let found = find(exchange);
        if self.hide_credentials {
            exchange.head.headers.remove(AUTHORIZATION);
        }
        match found {
            Ok(credential) => {
                exchange.attach(&credential);
                Step::Continue
            }
            Err(denied) => auth::deny(exchange, self.anonymous_consumer.as_deref(), denied, || {
                (WWW_AUTHENTICATE, format!("Basic realm=\"{}\"", self.realm))
            }),
        }
    }
}

fn find(exchange: &Exchange<'_>) -> Result<Arc<Credential>, Denied> {
    let missing = Denied::new("Missing authorization in request");
    let shown = exchange.header("authorization").ok_or(missing)?;
    let invalid = Denied::new("Invalid authorization in request");
    let (user, password) = decoded(shown).ok_or(invalid)?;
    let unknown = Denied::new("Invalid user authorization");
    let consumers = exchange.consumers().ok_or(unknown)?;
    let credential = consumers.find("basic-auth", &user).ok_or(unknown)?;
    let expected = credential.settings["password"].as_str().unwrap_or_default();
    verify_slices_are_equal(expected.as_bytes(), password.as_bytes()).map_err(|_| unknown)?;
    Ok(Arc::clone(credential))
}

/// The name and the password; blanks around them do not count.
fn decoded(shown: &str) -> Option<(String, String)> {
    let (scheme, encoded) = shown.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let plain = String::from_utf8(BASE64_STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (user, password) = plain.split_once(':')?;
    let without_blanks = |text: &str| text.split_whitespace().collect();
    Some((without_blanks(user), without_blanks(password)))
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::prelude::BASE64_STANDARD;
    use serde_json::{Value, json};

    use crate::testing::Case;

    fn case(settings: Value) -> Case {
        let auth = json!({"basic-auth": {"username": "u", "password": "p"}});
        Case::new("basic-auth", settings)
            .consumers(json!({"consumers": [{"username": "jack", "plugins": auth}]}))
    }

    fn shown(plain: &str) -> String {
        format!("Basic {}", BASE64_STANDARD.encode(plain))
    }

    #[test]
    fn the_right_password_lets_in() {
        let outcome = case(json!({"hide_credentials": true}))
            .get("/")
            .header("authorization", &shown("u:p"))
            .run();
        outcome.passes();
        assert_eq!(outcome.header("x-consumer-username"), Some("jack"));
        assert_eq!(outcome.header("authorization"), None);
    }

    #[test]
    fn everything_else_is_refused_with_its_reason() {
        let reply = case(json!({})).get("/").run().replies(401);
        assert_eq!(reply.text(), "{\"message\":\"Missing authorization in request\"}\n");
        assert_eq!(reply.header("www-authenticate"), Some("Basic realm=\"basic\""));
        for (value, message) in [
            ("Bearer x".to_owned(), "Invalid authorization in request"),
            (shown("nocolon"), "Invalid authorization in request"),
            (shown("u:wrong"), "Invalid user authorization"),
            (shown("other:p"), "Invalid user authorization"),
        ] {
            let outcome = case(json!({})).get("/").header("authorization", &value).run();
            assert_eq!(outcome.replies(401).text(), format!("{{\"message\":\"{message}\"}}\n"));
        }
    }
}
