//! References to secrets within configurations.

use std::env;

use serde_json::Value;

/// Where secrets are kept.
pub(crate) trait SecretSource {
    /// The secret behind a reference; `None` if it is not one of this source, or not there.
    fn get(&self, reference: &str) -> Option<String>;
}

/// `$env://NAME` and `$env://NAME/field`: the environment of the proxy; a field of a JSON object
/// in it.
pub(crate) struct Environment;

impl SecretSource for Environment {
    fn get(&self, reference: &str) -> Option<String> {
        let scheme = reference.get(..7)?;
        if !scheme.eq_ignore_ascii_case("$env://") {
            return None;
        }
        let (name, field) = match reference[7..].split_once('/') {
            Some((name, field)) => (name, Some(field)),
            None => (&reference[7..], None),
        };
        let value = env::var(name).ok()?;
        let Some(field) = field else { return Some(value) };
        let json: Value = serde_json::from_str(&value).ok()?;
        json.get(field).map(|field| field.as_str().map_or_else(|| field.to_string(), str::to_owned))
    }
}

/// Whether a text stands for a secret.
pub(crate) fn is_reference(text: &str) -> bool {
    let start = text.get(..7).unwrap_or_default();
    start.eq_ignore_ascii_case("$env://") || text.starts_with("$secret://")
}

/// Puts secrets in the place of their references; whether all were there. Others stay as they are,
/// as in APISIX.
pub(crate) fn resolve(settings: &mut Value, source: &dyn SecretSource) -> bool {
    match settings {
        Value::String(text) if is_reference(text) => match source.get(text) {
            Some(secret) => {
                *text = secret;
                true
            }
            None => false,
        },
        Value::Array(items) => resolve_all(items.iter_mut(), source),
        Value::Object(fields) => resolve_all(fields.values_mut(), source),
        _ => true,
    }
}

fn resolve_all<'a>(all: impl Iterator<Item = &'a mut Value>, source: &dyn SecretSource) -> bool {
    let missing = all.filter_map(|one| (!resolve(one, source)).then_some(()));
    missing.count() == 0
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    struct Known;

    impl SecretSource for Known {
        fn get(&self, reference: &str) -> Option<String> {
            (reference == "$env://KEY").then(|| "secret".to_owned())
        }
    }

    #[test]
    fn references_are_replaced_at_any_depth_and_unknown_ones_stay() {
        let mut settings = json!({"a": ["$env://KEY"], "b": {"c": "plain"}});
        assert!(resolve(&mut settings, &Known));
        assert_eq!(settings, json!({"a": ["secret"], "b": {"c": "plain"}}));
        let mut settings = json!({"a": "$secret://vault/1/x", "b": "$env://KEY"});
        assert!(!resolve(&mut settings, &Known));
        assert_eq!(settings, json!({"a": "$secret://vault/1/x", "b": "secret"}));
    }

    #[test]
    fn the_environment_gives_variables() {
        let path = env::var("PATH").expect("a path");
        assert_eq!(Environment.get("$ENV://PATH"), Some(path));
        assert_eq!(Environment.get("$env://NO_SUCH_VARIABLE_OF_WEFT"), None);
        assert_eq!(Environment.get("PATH"), None);
    }
}
