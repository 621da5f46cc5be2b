//! `uri-blocker`: paths and queries that nobody may ask for.

use std::sync::Arc;

use regex::{RegexSet, RegexSetBuilder};
use serde::Deserialize;
use serde_json::Value;

use crate::definition::{Context, Definition, decode};
use crate::exchange::Exchange;
use crate::plugin::{Plugin, Step};
use crate::reply::Reply;

pub(crate) const DEFINITION: Definition = Definition::new(
    "uri-blocker",
    2900,
    r#"{
        "type": "object",
        "properties": {
            "block_rules": {
                "type": "array", "uniqueItems": true,
                "items": {"type": "string", "minLength": 1, "maxLength": 4096}
            },
            "rejected_code": {"type": "integer", "minimum": 200, "default": 403},
            "rejected_msg": {"type": "string", "minLength": 1},
            "case_insensitive": {"type": "boolean", "default": false}
        },
        "required": ["block_rules"]
    }"#,
    compile,
);

#[derive(Debug)]
struct UriBlocker {
    rules: RegexSet,
    code: u16,
    message: Option<String>,
}

fn compile(settings: &Value, _: &Context<'_>) -> Result<Arc<dyn Plugin>, String> {
    #[derive(Deserialize)]
    struct Raw {
        block_rules: Vec<String>,
        rejected_code: u16,
        rejected_msg: Option<String>,
        case_insensitive: bool,
    }
    let raw: Raw = decode(settings)?;
    let mut rules = RegexSetBuilder::new(&raw.block_rules);
    let rules = rules.case_insensitive(raw.case_insensitive).build();
    Ok(Arc::new(UriBlocker {
        rules: rules.map_err(|error| error.to_string())?,
        code: raw.rejected_code,
        message: raw.rejected_msg,
    }))
}

impl Plugin for UriBlocker {
    fn rewrite(&self, exchange: &mut Exchange<'_>) -> Step {
        let uri = exchange.head.uri.path_and_query().map_or("/", |path| path.as_str());
        if self.rules.is_match(uri) {
            return Reply::rejection(self.code, self.message.as_deref()).into();
        }
        Step::Continue
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::{Case, refused};

    #[test]
    fn what_matches_is_refused() {
        let settings = json!({"block_rules": ["root.exe", "^/Secret", "[?&]q=x"]});
        for (uri, passes) in [
            ("/a", true),
            ("/a/root.exe?b=1", false),
            ("/secret", true),
            ("/Secret/1", false),
            ("/a?p=1&q=x", false),
        ] {
            let case = Case::new("uri-blocker", settings.clone()).get(uri);
            assert_eq!(case.run().passed(), passes, "{uri}");
        }
        let reply = Case::new("uri-blocker", settings).get("/root.exe").run().replies(403);
        assert!(reply.text().contains("<h1>403 Forbidden</h1>"), "{}", reply.text());
    }

    #[test]
    fn case_and_answer_are_settings() {
        let settings = json!({
            "block_rules": ["^/secret"], "case_insensitive": true,
            "rejected_code": 404, "rejected_msg": "gone",
        });
        let reply = Case::new("uri-blocker", settings).get("/SECRET").run().replies(404);
        assert_eq!(reply.text(), "{\"error_msg\":\"gone\"}\n");
        assert!(refused("uri-blocker", json!({"block_rules": [".+("]})).contains("unclosed group"));
    }
}
