//! `client-control`: how large a request's body may be.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use crate::definition::{Context, Definition, decode};
use crate::exchange::Exchange;
use crate::plugin::{Plugin, Step};
use crate::reply::Reply;

pub(crate) const DEFINITION: Definition = Definition::new(
    "client-control",
    22000,
    r#"{
        "type": "object",
        "properties": {"max_body_size": {"type": "integer", "minimum": 0}}
    }"#,
    compile,
);

#[derive(Debug, Deserialize)]
struct ClientControl {
    /// Bytes; 0 is no limit.
    max_body_size: Option<u64>,
}

fn compile(settings: &Value, _: &Context<'_>) -> Result<Arc<dyn Plugin>, String> {
    Ok(Arc::new(decode::<ClientControl>(settings)?))
}

impl Plugin for ClientControl {
    fn rewrite(&self, exchange: &mut Exchange<'_>) -> Step {
        let limit = self.max_body_size.filter(|limit| *limit > 0);
        let length = exchange.header("content-length").and_then(|text| text.parse::<u64>().ok());
        match (limit, length) {
            (Some(limit), Some(length)) if length > limit => Reply::status(413).into(),
            _ => Step::Continue,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Case;

    #[test]
    fn a_body_that_says_that_it_is_too_large_is_refused() {
        for (limit, length, passes) in [(5, "5", true), (5, "6", false), (0, "6", true)] {
            let case = Case::new("client-control", json!({"max_body_size": limit}));
            let outcome = case.method("POST", "/").header("content-length", length).run();
            assert_eq!(outcome.passed(), passes, "{limit} {length}");
        }
    }
}
