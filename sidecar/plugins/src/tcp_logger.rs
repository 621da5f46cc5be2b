//! `tcp-logger`: entries, in batches, over TCP.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::definition::{Context, Definition, decode};
use crate::exchange::Ended;
use crate::logging::{BatchSettings, Batches, Deliver, Format, connect, joined};
use crate::plugin::Plugin;

pub(crate) const DEFINITION: Definition = Definition::new(
    "tcp-logger",
    405,
    r#"{
        "type": "object",
        "properties": {
            "host": {"type": "string"},
            "port": {"type": "integer", "minimum": 0},
            "timeout": {"type": "integer", "minimum": 1, "default": 1000},
            "batch_max_size": {"type": "integer", "minimum": 1, "default": 1000},
            "inactive_timeout": {"type": "integer", "minimum": 1, "default": 5},
            "buffer_duration": {"type": "integer", "minimum": 1, "default": 60},
            "retry_delay": {"type": "integer", "minimum": 0, "default": 1},
            "max_retry_count": {"type": "integer", "minimum": 0, "default": 0},
            "name": {"type": "string"},
            "log_format": {"type": "object"}
        },
        "required": ["host", "port"],
        "additionalProperties": false
    }"#,
    compile,
)
.with_metadata(r#"{"type": "object", "properties": {"log_format": {"type": "object"}}}"#);

#[derive(Debug)]
struct TcpLogger {
    format: Format,
    batches: Arc<Batches>,
}

#[derive(Debug)]
struct Server {
    host: String,
    port: u16,
    timeout: Duration,
    /// Whether an entry goes alone, without a list around it.
    single: bool,
}

fn compile(settings: &Value, context: &Context<'_>) -> Result<Arc<dyn Plugin>, String> {
    #[derive(Deserialize)]
    struct Raw {
        host: String,
        port: u16,
        timeout: u64,
        batch_max_size: usize,
    }
    let raw: Raw = decode(settings)?;
    let server = Server {
        host: raw.host,
        port: raw.port,
        timeout: Duration::from_millis(raw.timeout),
        single: raw.batch_max_size == 1,
    };
    let batch: BatchSettings = decode(settings)?;
    Ok(Arc::new(TcpLogger {
        format: Format::new(settings, context.metadata),
        batches: context.state(settings, || Batches::new(batch, server)),
    }))
}

impl Plugin for TcpLogger {
    fn logs(&self) -> bool {
        true
    }

    fn log(&self, ended: &Ended) {
        self.batches.add(self.format.entry(ended));
    }
}

impl Deliver for Server {
    fn deliver(&self, entries: &[Value]) -> Result<(), String> {
        let failed = |error: std::io::Error| format!("{}:{}: {error}", self.host, self.port);
        let mut stream = connect(&self.host, self.port, self.timeout).map_err(failed)?;
        stream.write_all(joined(entries, self.single).as_bytes()).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;

    use serde_json::json;

    use crate::testing::{Case, refused};

    #[test]
    fn a_batch_is_sent() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let settings = json!({
            "host": "127.0.0.1", "port": port, "batch_max_size": 1,
            "log_format": {"uri": "$uri"},
        });
        Case::new("tcp-logger", settings).get("/a").run().respond(200);
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("text");
        assert_eq!(text, "{\"uri\":\"/a\"}");
    }

    #[test]
    fn tls_is_refused() {
        let error = refused("tcp-logger", json!({"host": "a", "port": 1, "tls": true}));
        assert_eq!(error, "additional properties forbidden, found tls");
    }
}
