//! `gzip`: responses are compressed for clients that take it.

use std::io;
use std::sync::Arc;

use flate2::write::GzEncoder;
use http::response::Parts as ResponseHead;
use serde_json::Value;

use crate::compress::{Compressor, Which, compressed, is_chosen};
use crate::definition::{Context, Definition};
use crate::exchange::Answer;
use crate::plugin::{Changing, Plugin};

pub(crate) const DEFINITION: Definition = Definition::new(
    "gzip",
    995,
    r#"{
        "type": "object",
        "properties": {
            "types": {
                "anyOf": [
                    {"type": "array", "minItems": 1, "items": {"type": "string", "minLength": 1}},
                    {"enum": ["*"]}
                ],
                "default": ["text/html"]
            },
            "min_length": {"type": "integer", "minimum": 1, "default": 20},
            "comp_level": {"type": "integer", "minimum": 1, "maximum": 9, "default": 1},
            "http_version": {"enum": [1.1, 1.0], "default": 1.1},
            "buffers": {
                "type": "object",
                "properties": {
                    "number": {"type": "integer", "minimum": 1, "default": 32},
                    "size": {"type": "integer", "minimum": 1, "default": 4096}
                },
                "default": {"number": 32, "size": 4096}
            },
            "vary": {"type": "boolean"}
        }
    }"#,
    compile,
)
.with_io(|_| true);

#[derive(Debug)]
struct Gzip {
    which: Which,
    level: u32,
}

fn compile(settings: &Value, _: &Context<'_>) -> Result<Arc<dyn Plugin>, String> {
    let level = settings["comp_level"].as_u64().and_then(|level| u32::try_from(level).ok());
    Ok(Arc::new(Gzip { which: Which::read("gzip", settings)?, level: level.unwrap_or(1) }))
}

impl Compressor for GzEncoder<Vec<u8>> {
    fn take(&mut self) -> Vec<u8> {
        std::mem::take(self.get_mut())
    }

    fn finish(self: Box<Self>) -> io::Result<Vec<u8>> {
        GzEncoder::finish(*self)
    }
}

impl Plugin for Gzip {
    fn sees_responses_last(&self) -> bool {
        true
    }

    fn reads_request_late(&self) -> bool {
        true
    }

    fn header_filter(&self, answer: &mut Answer<'_>, head: &mut ResponseHead) {
        self.which.choose(answer, head);
    }

    fn body<'a>(&'a self, answer: &'a mut Answer<'_>) -> Option<Changing<'a>> {
        if is_chosen(answer) {
            let level = flate2::Compression::new(self.level);
            let encoder = Box::new(GzEncoder::new(Vec::new(), level));
            answer.cx.io().response.transform(|body| compressed(body, encoder));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use serde_json::json;

    use super::*;
    use crate::testing::{Case, Seen, refused};

    const TEXT: &str = "a text that is long enough to be compressed, compressed, compressed";

    async fn answer(settings: Value, accepted: &str, headers: &[(&str, &str)]) -> Seen {
        let case = Case::new("gzip", settings).get("/").header("accept-encoding", accepted);
        case.run().respond_body(200, headers, TEXT).await
    }

    fn unpacked(seen: &Seen) -> String {
        let mut text = String::new();
        flate2::read::GzDecoder::new(seen.bytes()).read_to_string(&mut text).expect("gzip");
        text
    }

    #[tokio::test]
    async fn a_response_is_compressed_for_those_who_take_it() {
        let headers = [("content-type", "text/html; charset=utf-8"), ("etag", "\"1\"")];
        let seen = answer(json!({"vary": true}), "br, gzip", &headers).await;
        assert_eq!(seen.header("content-encoding"), Some("gzip"));
        assert_eq!(
            (seen.header("vary"), seen.header("etag")),
            (Some("Accept-Encoding"), Some("W/\"1\""))
        );
        assert_eq!(unpacked(&seen), TEXT);
    }

    #[tokio::test]
    async fn others_pass_as_they_are() {
        let html = ("content-type", "text/html");
        for (settings, accepted, headers) in [
            (json!({}), "br", vec![html]),
            (json!({}), "gzip", vec![("content-type", "text/css")]),
            (json!({}), "gzip", vec![html, ("content-encoding", "br")]),
            (json!({"min_length": 1000}), "gzip", vec![html, ("content-length", "67")]),
        ] {
            let seen = answer(settings.clone(), accepted, &headers).await;
            assert_eq!(seen.text(), TEXT, "{settings} {accepted} {headers:?}");
        }
        let seen = answer(json!({"types": "*"}), "gzip", &[("content-type", "text/css")]).await;
        assert_eq!(unpacked(&seen), TEXT);
    }

    #[tokio::test]
    async fn what_others_make_of_a_body_is_compressed() {
        let plugins = json!({
            "gzip": {},
            "response-rewrite": {"filters": [{"regex": "long", "replace": "short"}]},
        });
        let chain = json!({"owner": "/apisix/routes/1", "plugins": plugins});
        let case = Case::chain(chain).get("/").header("accept-encoding", "gzip");
        let seen = case.run().respond_body(200, &[("content-type", "text/html")], TEXT).await;
        assert_eq!(seen.header("content-encoding"), Some("gzip"));
        assert_eq!(unpacked(&seen), TEXT.replace("long", "short"));
    }

    #[test]
    fn wrong_settings_are_refused() {
        let error = refused("gzip", json!({"comp_level": 10}));
        assert!(error.contains("at most 9"), "{error}");
    }
}
