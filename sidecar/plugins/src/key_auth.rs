//! `key-auth`: a key in a header or the query says who asks.

use std::sync::Arc;

use http::HeaderName;
use http::header::WWW_AUTHENTICATE;
use serde::Deserialize;
use serde_json::Value;

use crate::auth::{self, Denied};
use crate::consumers::Credential;
use crate::definition::{Context, Definition, decode};
use crate::exchange::Exchange;
use crate::plugin::{Plugin, Step};
use crate::variables;

pub(crate) const DEFINITION: Definition = Definition::new(
    "key-auth",
    2500,
    r#"{
        "type": "object",
        "properties": {
            "header": {"type": "string", "default": "apikey"},
            "query": {"type": "string", "default": "apikey"},
            "realm": {"type": "string", "pattern": "^[^\"\\\\]+$", "default": "key"},
            "hide_credentials": {"type": "boolean", "default": false},
            "anonymous_consumer": {"type": "string", "minLength": 1}
        }
    }"#,
    compile,
)
.with_consumers(
    r#"{"type": "object", "properties": {"key": {"type": "string"}}, "required": ["key"]}"#,
    "key",
);

#[derive(Debug, Deserialize)]
struct KeyAuth {
    header: String,
    query: String,
    realm: String,
    hide_credentials: bool,
    anonymous_consumer: Option<String>,
}

fn compile(settings: &Value, _: &Context<'_>) -> Result<Arc<dyn Plugin>, String> {
    Ok(Arc::new(decode::<KeyAuth>(settings)?))
}

impl Plugin for KeyAuth {
    fn rewrite(&self, exchange: &mut Exchange<'_>) -> Step {
        match self.find(exchange) {
            Ok(credential) => {
                exchange.attach(&credential);
                self.hide(exchange);
                Step::Continue
            }
            Err(denied) => {
                self.hide(exchange);
                auth::deny(exchange, self.anonymous_consumer.as_deref(), denied, || {
                    (WWW_AUTHENTICATE, format!("apikey realm=\"{}\"", self.realm))
                })
            }
        }
    }
}

impl KeyAuth {
    fn find(&self, exchange: &Exchange<'_>) -> Result<Arc<Credential>, Denied> {
        let query = || variables::argument(exchange.head.uri.query()?, &self.query);
        let key = exchange.header(&self.header).map(Into::into).or_else(query);
        let key = key.ok_or(Denied::new("Missing API key in request"))?;
        let consumers = exchange.consumers();
        let found = consumers.as_ref().and_then(|all| all.find("key-auth", &key));
        found.cloned().ok_or(Denied::new("Invalid API key in request"))
    }

    /// What the upstream need not know.
    fn hide(&self, exchange: &mut Exchange<'_>) {
        if !self.hide_credentials {
            return;
        }
        if let Ok(name) = self.header.parse::<HeaderName>()
            && exchange.head.headers.remove(name).is_some()
        {
            return;
        }
        exchange.remove_query_parameter(&self.query);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Case;

    fn case(settings: Value) -> Case {
        Case::new("key-auth", settings).consumers(json!({"consumers": [
            {"username": "jack", "labels": {"custom_id": "7"}, "plugins": {"key-auth": {"key": "k1"}}},
            {"username": "jill", "group_id": "g", "credentials": {"c1": {"key-auth": {"key": "k2"}}}},
            {"username": "nobody"},
            {"username": "lost", "plugins": {"key-auth": {"key": "$env://NO_SUCH_VARIABLE_OF_WEFT"}}},
        ]}))
    }

    use serde_json::Value;

    #[test]
    fn a_known_key_makes_the_request_its_consumer_s() {
        let outcome = case(json!({})).get("/a").header("apikey", "k1").run();
        outcome.passes();
        assert_eq!(outcome.header("x-consumer-username"), Some("jack"));
        assert_eq!(outcome.header("x-consumer-custom-id"), Some("7"));
        assert_eq!(outcome.header("x-credential-identifier"), None);
        let outcome = case(json!({})).get("/a?apikey=k2").run();
        outcome.passes();
        assert_eq!(outcome.header("x-consumer-username"), Some("jill"));
        assert_eq!(outcome.header("x-credential-identifier"), Some("c1"));
        assert_eq!(outcome.uri(), "/a?apikey=k2");
    }

    #[test]
    fn missing_and_unknown_keys_are_refused() {
        let reply = case(json!({})).get("/").run().replies(401);
        assert_eq!(reply.text(), "{\"message\":\"Missing API key in request\"}\n");
        assert_eq!(reply.header("www-authenticate"), Some("apikey realm=\"key\""));
        for key in ["other", "$env://NO_SUCH_VARIABLE_OF_WEFT"] {
            let reply =
                case(json!({"realm": "r"})).get("/").header("apikey", key).run().replies(401);
            assert_eq!(reply.text(), "{\"message\":\"Invalid API key in request\"}\n");
            assert_eq!(reply.header("www-authenticate"), Some("apikey realm=\"r\""));
        }
    }

    #[test]
    fn hidden_keys_do_not_reach_the_upstream() {
        let settings = json!({"hide_credentials": true, "header": "x-key", "query": "k"});
        let outcome = case(settings.clone()).get("/a?k=k1&b=2").run();
        outcome.passes();
        assert_eq!(outcome.uri(), "/a?b=2");
        let outcome = case(settings).get("/a").header("x-key", "k1").run();
        outcome.passes();
        assert_eq!(outcome.header("x-key"), None);
    }

    #[test]
    fn an_anonymous_consumer_stands_in() {
        let outcome = case(json!({"anonymous_consumer": "nobody"})).get("/").run();
        outcome.passes();
        assert_eq!(outcome.header("x-consumer-username"), Some("nobody"));
        let reply = case(json!({"anonymous_consumer": "x"})).get("/").run().replies(401);
        assert_eq!(reply.text(), "{\"message\":\"Invalid user authorization\"}\n");
    }
}
