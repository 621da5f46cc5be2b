//! `ua-restriction`: which user agents may ask.

use std::sync::Arc;

use http::header::USER_AGENT;
use regex::RegexSet;
use serde::Deserialize;
use serde_json::Value;

use crate::definition::{Context, Definition, decode};
use crate::exchange::Exchange;
use crate::plugin::{Plugin, Step};
use crate::reply::Reply;

pub(crate) const DEFINITION: Definition = Definition::new(
    "ua-restriction",
    2999,
    r#"{
        "type": "object",
        "properties": {
            "bypass_missing": {"type": "boolean", "default": false},
            "allowlist": {
                "type": "array", "minItems": 1, "items": {"type": "string", "minLength": 1}
            },
            "denylist": {
                "type": "array", "minItems": 1, "items": {"type": "string", "minLength": 1}
            },
            "message": {
                "type": "string", "minLength": 1, "maxLength": 1024, "default": "Not allowed"
            }
        },
        "oneOf": [{"required": ["allowlist"]}, {"required": ["denylist"]}]
    }"#,
    compile,
);

#[derive(Debug)]
struct UaRestriction {
    passes_missing: bool,
    patterns: RegexSet,
    /// Whether the patterns are of those that may ask.
    allows: bool,
    message: String,
}

fn compile(settings: &Value, _: &Context<'_>) -> Result<Arc<dyn Plugin>, String> {
    #[derive(Deserialize)]
    struct Raw {
        bypass_missing: bool,
        allowlist: Option<Vec<String>>,
        denylist: Option<Vec<String>>,
        message: String,
    }
    let raw: Raw = decode(settings)?;
    let allows = raw.allowlist.is_some();
    let list = raw.allowlist.or(raw.denylist).unwrap_or_default();
    Ok(Arc::new(UaRestriction {
        passes_missing: raw.bypass_missing,
        patterns: RegexSet::new(&list).map_err(|error| error.to_string())?,
        allows,
        message: raw.message,
    }))
}

impl Plugin for UaRestriction {
    fn access(&self, exchange: &mut Exchange<'_>) -> Step {
        let mut agents = exchange.head.headers.get_all(USER_AGENT).iter().peekable();
        let passes = if agents.peek().is_none() {
            self.passes_missing
        } else {
            let matches = |agent: &http::HeaderValue| {
                self.patterns.is_match(String::from_utf8_lossy(agent.as_bytes()).trim())
            };
            agents.any(matches) == self.allows
        };
        if passes { Step::Continue } else { Reply::message(403, &self.message).into() }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::{Case, refused};

    #[test]
    fn agents_pass_by_their_names() {
        for (settings, agent, passes) in [
            (json!({"allowlist": ["^good"]}), Some("good/1"), true),
            (json!({"allowlist": ["^good"]}), Some("bad"), false),
            (json!({"denylist": ["^bad", "spider"]}), Some("a spider"), false),
            (json!({"denylist": ["^bad"]}), Some("good"), true),
            (json!({"denylist": ["^bad"]}), None, false),
            (json!({"denylist": ["^bad"], "bypass_missing": true}), None, true),
        ] {
            let mut case = Case::new("ua-restriction", settings.clone()).get("/");
            if let Some(agent) = agent {
                case = case.header("user-agent", agent);
            }
            assert_eq!(case.run().passed(), passes, "{settings} {agent:?}");
        }
        let case = Case::new("ua-restriction", json!({"allowlist": ["x"]})).get("/");
        assert_eq!(case.run().replies(403).text(), "{\"message\":\"Not allowed\"}\n");
    }

    #[test]
    fn a_pattern_has_to_be_one() {
        assert!(refused("ua-restriction", json!({"denylist": ["("]})).contains("unclosed group"));
    }
}
