//! `consumer-restriction`: which consumers, groups, routes or services may ask.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use crate::definition::{Context, Definition, decode};
use crate::exchange::Exchange;
use crate::plugin::{Plugin, Step};
use crate::reply::Reply;

pub(crate) const DEFINITION: Definition = Definition::new(
    "consumer-restriction",
    2400,
    r#"{
        "type": "object",
        "properties": {
            "type": {
                "type": "string",
                "enum": ["consumer_name", "service_id", "route_id", "consumer_group_id"],
                "default": "consumer_name"
            },
            "blacklist": {"type": "array", "minItems": 1, "items": {"type": "string"}},
            "whitelist": {"type": "array", "minItems": 1, "items": {"type": "string"}},
            "allowed_by_methods": {"type": "array", "items": {
                "type": "object",
                "properties": {
                    "user": {"type": "string"},
                    "methods": {"type": "array", "minItems": 1, "items": {
                        "type": "string",
                        "enum": [
                            "GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS",
                            "CONNECT", "TRACE", "PURGE"
                        ]
                    }}
                }
            }},
            "rejected_code": {"type": "integer", "minimum": 200, "default": 403},
            "rejected_msg": {"type": "string"}
        },
        "anyOf": [
            {"required": ["blacklist"]},
            {"required": ["whitelist"]},
            {"required": ["allowed_by_methods"]}
        ]
    }"#,
    compile,
);

#[derive(Debug, Deserialize)]
struct ConsumerRestriction {
    #[serde(rename = "type")]
    by: String,
    #[serde(default)]
    blacklist: Vec<String>,
    #[serde(default)]
    whitelist: Vec<String>,
    #[serde(default)]
    allowed_by_methods: Vec<Methods>,
    rejected_code: u16,
    rejected_msg: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Methods {
    #[serde(default)]
    user: String,
    #[serde(default)]
    methods: Vec<String>,
}

fn compile(settings: &Value, _: &Context<'_>) -> Result<Arc<dyn Plugin>, String> {
    Ok(Arc::new(decode::<ConsumerRestriction>(settings)?))
}

impl Plugin for ConsumerRestriction {
    fn access(&self, exchange: &mut Exchange<'_>) -> Step {
        let by = &self.by;
        let Some(value) = exchange.variable(by) else {
            let message =
                format!("The request is rejected, please check the {by} for this request");
            return Reply::message(401, &message).into();
        };
        if self.allows(&value, exchange.head.method.as_str()) {
            return Step::Continue;
        }
        let standard = || format!("The {by} is forbidden.");
        Reply::message(self.rejected_code, &self.rejected_msg.clone().unwrap_or_else(standard))
            .into()
    }
}

impl ConsumerRestriction {
    fn allows(&self, value: &str, method: &str) -> bool {
        let lists = |list: &[String]| list.iter().any(|item| item == value);
        if lists(&self.blacklist) {
            return false;
        }
        if lists(&self.whitelist) {
            return true;
        }
        let methods = self.allowed_by_methods.iter().find(|entry| entry.user == value);
        let by_method =
            methods.is_none_or(|entry| entry.methods.iter().any(|known| known == method));
        self.whitelist.is_empty() && by_method
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::testing::{Case, Outcome};

    fn run(method: &str, settings: &Value) -> Outcome {
        let chain = json!({"route_id": "r1", "plugins": {
            "key-auth": {}, "consumer-restriction": settings,
        }});
        Case::chain(chain)
            .consumers(json!({"consumers": [
                {"username": "jack", "group_id": "g", "plugins": {"key-auth": {"key": "k"}}},
            ]}))
            .method(method, "/?apikey=k")
            .run()
    }

    #[test]
    fn lists_and_methods_decide() {
        let methods = json!([{"user": "jack", "methods": ["POST"]}]);
        for (method, settings, passes) in [
            ("GET", json!({"whitelist": ["jack"]}), true),
            ("GET", json!({"whitelist": ["jill"]}), false),
            ("GET", json!({"blacklist": ["jack"]}), false),
            ("GET", json!({"blacklist": ["jill"]}), true),
            ("POST", json!({"allowed_by_methods": methods}), true),
            ("GET", json!({"allowed_by_methods": methods}), false),
            ("GET", json!({"type": "route_id", "whitelist": ["r1"]}), true),
            ("GET", json!({"type": "consumer_group_id", "blacklist": ["g"]}), false),
        ] {
            assert_eq!(run(method, &settings).passed(), passes, "{method} {settings}");
        }
    }

    #[test]
    fn refusals_say_why() {
        let reply = run("GET", &json!({"blacklist": ["jack"]})).replies(403);
        assert_eq!(reply.text(), "{\"message\":\"The consumer_name is forbidden.\"}\n");
        let reply = run("GET", &json!({"type": "service_id", "blacklist": ["x"]})).replies(401);
        let message = "The request is rejected, please check the service_id for this request";
        assert_eq!(reply.text(), format!("{{\"message\":\"{message}\"}}\n"));
    }
}
