//! Secrets within the plugins of Weft's own control plane, whose JSON has no annotations.

use serde_json::Value as Json;

use super::REDACTED;

/// Fields whose text nobody should see, whatever the plugin.
const FIELDS: &[&str] = &[
    "secret",
    "secret_key",
    "password",
    "token",
    "private_key",
    "auth_header",
    "authorization",
    "client_secret",
    "redis_password",
    "sentinel_password",
    "sasl_password",
];

/// What of a message is hidden.
#[derive(Clone, Copy)]
pub(super) struct Hides {
    /// `key` as well: it is how a consumer is known, and a setting elsewhere.
    keys: bool,
}

impl Hides {
    /// What is hidden of the message of this name.
    pub(super) fn of(name: &str) -> Option<Self> {
        match name {
            "weft.plugins.v1.Consumers" => Some(Self { keys: true }),
            "weft.plugins.v1.Chain" => Some(Self { keys: false }),
            _ => None,
        }
    }

    pub(super) fn redact(self, json: &mut Json) {
        match json {
            Json::Array(items) => items.iter_mut().for_each(|item| self.redact(item)),
            Json::Object(fields) => {
                for (name, value) in fields.iter_mut() {
                    let within = Self { keys: self.keys || name == "csrf" };
                    let hidden = FIELDS.contains(&name.as_str()) || (self.keys && name == "key");
                    if hidden && value.is_string() {
                        *value = REDACTED.into();
                    } else {
                        within.redact(value);
                    }
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::{Sensitive, TypedStruct, any_to_json};

    #[test]
    fn what_consumers_show_is_hidden_and_settings_are_not() {
        let shown = |name: &str, fields: serde_json::Value| {
            let any = TypedStruct::pack(name, fields.as_object().expect("fields"));
            any_to_json(&any, Sensitive::Redact)["value"].clone()
        };
        let consumers = json!({"consumers": [{"username": "jack", "plugins": {
            "key-auth": {"key": "k"}, "basic-auth": {"username": "u", "password": "p"},
        }}]});
        let expected = json!({"consumers": [{"username": "jack", "plugins": {
            "key-auth": {"key": "[redacted]"},
            "basic-auth": {"username": "u", "password": "[redacted]"},
        }}]});
        assert_eq!(shown("weft.plugins.v1.Consumers", consumers), expected);
        let chain = json!({"plugins": {
            "limit-count": {"key": "remote_addr", "redis_password": "p"}, "csrf": {"key": "k"},
        }});
        let expected = json!({"plugins": {
            "limit-count": {"key": "remote_addr", "redis_password": "[redacted]"},
            "csrf": {"key": "[redacted]"},
        }});
        assert_eq!(shown("weft.plugins.v1.Chain", chain), expected);
    }
}
