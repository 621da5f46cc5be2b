//! `public-api`: shows to the world what the proxy says of itself.

use std::sync::Arc;

use http::header::CONTENT_TYPE;
use serde::Deserialize;
use serde_json::Value;

use crate::definition::{Context, Definition, decode};
use crate::exchange::Exchange;
use crate::plugin::{Plugin, Step};
use crate::prometheus;
use crate::reply::Reply;

pub(crate) const DEFINITION: Definition = Definition::new(
    "public-api",
    501,
    r#"{"type": "object", "properties": {"uri": {"type": "string"}}}"#,
    compile,
);

#[derive(Debug, Deserialize)]
struct PublicApi {
    /// What is asked for, whatever the path is.
    uri: Option<String>,
}

fn compile(settings: &Value, _: &Context<'_>) -> Result<Arc<dyn Plugin>, String> {
    Ok(Arc::new(decode::<PublicApi>(settings)?))
}

impl Plugin for PublicApi {
    fn access(&self, exchange: &mut Exchange<'_>) -> Step {
        match self.uri.as_deref().unwrap_or(exchange.head.uri.path()) {
            "/apisix/prometheus/metrics" => {
                let kind = "text/plain; version=0.0.4";
                Reply::text(200, prometheus::text()).with(CONTENT_TYPE, kind).into()
            }
            _ => Reply::status(404).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Case;

    #[test]
    fn what_is_not_known_is_not_found() {
        Case::new("public-api", json!({})).get("/apisix/nothing").run().replies(404);
        let case = Case::new("public-api", json!({})).get("/apisix/prometheus/metrics");
        let reply = case.run().replies(200);
        assert!(reply.text().contains("apisix_node_info{"), "{}", reply.text());
    }
}
