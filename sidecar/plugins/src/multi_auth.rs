//! `multi-auth`: one of several ways to say who asks.

use std::sync::Arc;

use http::header::WWW_AUTHENTICATE;
use serde_json::Value;

use crate::definition::{Context, Definition};
use crate::exchange::Exchange;
use crate::link::Link;
use crate::plugin::{Plugin, Step};
use crate::registry;
use crate::reply::Reply;

pub(crate) const DEFINITION: Definition = Definition::new(
    "multi-auth",
    2600,
    r#"{
        "type": "object",
        "properties": {"auth_plugins": {"type": "array", "minItems": 2}},
        "required": ["auth_plugins"]
    }"#,
    compile,
)
.authenticating();

#[derive(Debug)]
struct MultiAuth(Vec<Link>);

fn compile(settings: &Value, context: &Context<'_>) -> Result<Arc<dyn Plugin>, String> {
    let mut ways = Vec::new();
    for way in settings["auth_plugins"].as_array().into_iter().flatten() {
        for (name, settings) in way.as_object().into_iter().flatten() {
            let definition = registry::definition(name);
            let definition = definition.ok_or_else(|| format!("{name} plugin did not found"))?;
            if definition.consumer.is_none() {
                return Err(format!("{name} plugin is not supported"));
            }
            let link = Link::compile(name, settings, context.owner, context.metadata);
            ways.extend(
                link.map_err(|error| format!("plugin {name} check schema failed: {error}"))?,
            );
        }
    }
    Ok(Arc::new(MultiAuth(ways)))
}

impl Plugin for MultiAuth {
    fn rewrite(&self, exchange: &mut Exchange<'_>) -> Step {
        let mut challenge = None;
        for way in &self.0 {
            match way.plugin.rewrite(exchange) {
                Step::Reply(reply) => {
                    challenge = reply.headers.get(WWW_AUTHENTICATE).cloned().or(challenge);
                }
                other => return other,
            }
        }
        let mut reply = Reply::message(401, "Authorization Failed");
        reply.headers.extend(challenge.map(|challenge| (WWW_AUTHENTICATE, challenge)));
        reply.into()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::{Case, refused};

    #[test]
    fn any_of_the_ways_lets_in() {
        let settings = json!({"auth_plugins": [{"basic-auth": {}}, {"key-auth": {}}]});
        let case = Case::new("multi-auth", settings).consumers(json!({"consumers": [
            {"username": "jack", "plugins": {"key-auth": {"key": "k"}}},
            {"username": "jill", "plugins": {"basic-auth": {"username": "u", "password": "p"}}},
        ]}));
        let outcome = case.again().get("/").header("apikey", "k").run();
        outcome.passes();
        assert_eq!(outcome.header("x-consumer-username"), Some("jack"));
        let outcome = case.again().get("/").header("authorization", "Basic dTpw").run();
        outcome.passes();
        assert_eq!(outcome.header("x-consumer-username"), Some("jill"));
        let reply = case.again().get("/").run().replies(401);
        assert_eq!(reply.text(), "{\"message\":\"Authorization Failed\"}\n");
        assert_eq!(reply.header("www-authenticate"), Some("apikey realm=\"key\""));
    }

    #[test]
    fn only_ways_to_authenticate_are_taken() {
        for (plugins, error) in [
            (json!([{"no-such": {}}, {}]), "no-such plugin did not found"),
            (json!([{"cors": {}}, {}]), "cors plugin is not supported"),
            (
                json!([{"key-auth": {"header": 1}}, {}]),
                "plugin key-auth check schema failed: property \"header\" validation failed: \
                 wrong type: expected string, got number",
            ),
        ] {
            assert_eq!(refused("multi-auth", json!({"auth_plugins": plugins})), error);
        }
    }
}
