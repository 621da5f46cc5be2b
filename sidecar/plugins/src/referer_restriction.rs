//! `referer-restriction`: from which sites requests may come.

use std::sync::Arc;

use http::Uri;
use serde::Deserialize;
use serde_json::Value;

use crate::definition::{Context, Definition, decode};
use crate::exchange::Exchange;
use crate::plugin::{Plugin, Step};
use crate::reply::Reply;

pub(crate) const DEFINITION: Definition = Definition::new(
    "referer-restriction",
    2990,
    r#"{
        "type": "object",
        "properties": {
            "bypass_missing": {"type": "boolean", "default": false},
            "whitelist": {"type": "array", "minItems": 1, "items": {
                "type": "string", "pattern": "^\\*$|^\\*?[0-9a-zA-Z-._\\[\\]:]+$"
            }},
            "blacklist": {"type": "array", "minItems": 1, "items": {
                "type": "string", "pattern": "^\\*$|^\\*?[0-9a-zA-Z-._\\[\\]:]+$"
            }},
            "message": {
                "type": "string", "minLength": 1, "maxLength": 1024,
                "default": "Your referer host is not allowed"
            }
        },
        "oneOf": [{"required": ["whitelist"]}, {"required": ["blacklist"]}]
    }"#,
    compile,
);

#[derive(Debug)]
struct RefererRestriction {
    passes_missing: bool,
    hosts: Vec<String>,
    /// Whether the hosts are those that requests may come from.
    allows: bool,
    message: String,
}

fn compile(settings: &Value, _: &Context<'_>) -> Result<Arc<dyn Plugin>, String> {
    #[derive(Deserialize)]
    struct Raw {
        bypass_missing: bool,
        whitelist: Option<Vec<String>>,
        blacklist: Option<Vec<String>>,
        message: String,
    }
    let raw: Raw = decode(settings)?;
    Ok(Arc::new(RefererRestriction {
        passes_missing: raw.bypass_missing,
        allows: raw.whitelist.is_some(),
        hosts: raw.whitelist.or(raw.blacklist).unwrap_or_default(),
        message: raw.message,
    }))
}

impl Plugin for RefererRestriction {
    fn access(&self, exchange: &mut Exchange<'_>) -> Step {
        let uri = exchange.header("referer").and_then(|text| text.parse::<Uri>().ok());
        let uri = uri.filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")));
        let passes = match uri.as_ref().and_then(Uri::host) {
            None => self.passes_missing,
            Some(host) => self.lists(host) == self.allows,
        };
        if passes { Step::Continue } else { Reply::message(403, &self.message).into() }
    }
}

impl RefererRestriction {
    fn lists(&self, host: &str) -> bool {
        self.hosts.iter().any(|known| match known.strip_prefix('*') {
            Some(suffix) => host.ends_with(suffix),
            None => host == known,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Case;

    #[test]
    fn sites_pass_by_their_hosts() {
        let allow = json!({"whitelist": ["a.com", "*.b.com"]});
        for (settings, referer, passes) in [
            (allow.clone(), Some("http://a.com/x"), true),
            (allow.clone(), Some("https://x.b.com:444/"), true),
            (allow.clone(), Some("http://c.com"), false),
            (allow.clone(), Some("a.com"), false),
            (allow, None, false),
            (json!({"blacklist": ["a.com"]}), Some("http://a.com"), false),
            (json!({"blacklist": ["a.com"]}), Some("http://c.com"), true),
            (json!({"blacklist": ["a.com"], "bypass_missing": true}), None, true),
        ] {
            let mut case = Case::new("referer-restriction", settings.clone()).get("/");
            if let Some(referer) = referer {
                case = case.header("referer", referer);
            }
            assert_eq!(case.run().passed(), passes, "{settings} {referer:?}");
        }
    }
}
