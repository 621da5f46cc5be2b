//! `brotli`: responses are compressed for clients that take it.

use std::io;
use std::sync::Arc;

use brotli::CompressorWriter;
use brotli::enc::BrotliEncoderParams;
use brotli::enc::backward_references::BrotliEncoderMode;
use http::response::Parts as ResponseHead;
use serde::Deserialize;
use serde_json::Value;

use crate::compress::{Compressor, Which, compressed, is_chosen};
use crate::definition::{Context, Definition, decode};
use crate::exchange::Answer;
use crate::plugin::{Changing, Plugin};

pub(crate) const DEFINITION: Definition = Definition::new(
    "brotli",
    996,
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
            "mode": {"type": "integer", "minimum": 0, "maximum": 2, "default": 0},
            "comp_level": {"type": "integer", "minimum": 0, "maximum": 11, "default": 6},
            "lgwin": {
                "type": "integer", "default": 19,
                "enum": [0, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24]
            },
            "lgblock": {
                "type": "integer", "default": 0,
                "enum": [0, 16, 17, 18, 19, 20, 21, 22, 23, 24]
            },
            "http_version": {"enum": [1.1, 1.0], "default": 1.1},
            "vary": {"type": "boolean"}
        }
    }"#,
    compile,
)
.with_io(|_| true);

/// Bytes that are worked on at once.
const CHUNK: usize = 4096;

#[derive(Debug)]
struct Brotli {
    which: Which,
    settings: Settings,
}

#[derive(Debug, Deserialize)]
struct Settings {
    mode: u8,
    comp_level: i32,
    lgwin: i32,
    lgblock: i32,
}

fn compile(settings: &Value, _: &Context<'_>) -> Result<Arc<dyn Plugin>, String> {
    Ok(Arc::new(Brotli { which: Which::read("br", settings)?, settings: decode(settings)? }))
}

impl Settings {
    fn compressor(&self) -> CompressorWriter<Vec<u8>> {
        let mode = match self.mode {
            1 => BrotliEncoderMode::BROTLI_MODE_TEXT,
            2 => BrotliEncoderMode::BROTLI_MODE_FONT,
            _ => BrotliEncoderMode::BROTLI_MODE_GENERIC,
        };
        let usual = BrotliEncoderParams::default();
        let window = if self.lgwin == 0 { usual.lgwin } else { self.lgwin };
        let parameters = BrotliEncoderParams {
            mode,
            quality: self.comp_level,
            lgwin: window,
            lgblock: self.lgblock,
            ..usual
        };
        CompressorWriter::with_params(Vec::new(), CHUNK, &parameters)
    }
}

impl Compressor for CompressorWriter<Vec<u8>> {
    fn take(&mut self) -> Vec<u8> {
        std::mem::take(self.get_mut())
    }

    fn finish(self: Box<Self>) -> io::Result<Vec<u8>> {
        Ok(self.into_inner())
    }
}

impl Plugin for Brotli {
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
            let compressor = Box::new(self.settings.compressor());
            answer.cx.io().response.transform(|body| compressed(body, compressor));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use serde_json::json;

    use crate::testing::{Case, refused};

    #[tokio::test]
    async fn a_response_is_compressed_for_those_who_take_it() {
        let text = "a text that is long enough to be compressed, compressed, compressed";
        let case = Case::new("brotli", json!({"lgwin": 0, "mode": 1})).get("/");
        let mut outcome = case.header("accept-encoding", "gzip, br").run();
        let seen = outcome.respond_body(200, &[("content-type", "text/html")], text).await;
        assert_eq!(seen.header("content-encoding"), Some("br"));
        let mut unpacked = String::new();
        let mut reader = brotli::Decompressor::new(seen.bytes(), 4096);
        reader.read_to_string(&mut unpacked).expect("brotli");
        assert_eq!(unpacked, text);
    }

    #[test]
    fn wrong_settings_are_refused() {
        let error = refused("brotli", json!({"lgwin": 9}));
        assert!(error.contains("enum"), "{error}");
    }
}
