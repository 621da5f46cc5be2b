//! `udp-logger`: entries, in batches, over UDP.

use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::definition::{Context, Definition, decode};
use crate::exchange::Ended;
use crate::logging::{BatchSettings, Batches, Deliver, Format, joined, resolve};
use crate::plugin::Plugin;

pub(crate) const DEFINITION: Definition = Definition::new(
    "udp-logger",
    400,
    r#"{
        "type": "object",
        "properties": {
            "host": {"type": "string"},
            "port": {"type": "integer", "minimum": 0},
            "timeout": {"type": "integer", "minimum": 1, "default": 3},
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
struct UdpLogger {
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
        timeout: Duration::from_secs(raw.timeout),
        single: raw.batch_max_size == 1,
    };
    let batch: BatchSettings = decode(settings)?;
    Ok(Arc::new(UdpLogger {
        format: Format::new(settings, context.metadata),
        batches: context.state(settings, || Batches::new(batch, server)),
    }))
}

impl Plugin for UdpLogger {
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
        let server = resolve(&self.host, self.port).map_err(failed)?;
        let local = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(local).map_err(failed)?;
        socket.set_write_timeout(Some(self.timeout)).map_err(failed)?;
        let text = joined(entries, self.single);
        socket.send_to(text.as_bytes(), server).map(drop).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use serde_json::json;

    use crate::testing::Case;

    #[test]
    fn a_batch_is_sent() {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let port = socket.local_addr().expect("an address").port();
        let settings = json!({
            "host": "127.0.0.1", "port": port, "batch_max_size": 2,
            "log_format": {"status": "$status"},
        });
        let case = Case::new("udp-logger", settings);
        case.again().get("/a").run().respond(200);
        case.again().get("/a").run().respond(404);
        let mut text = [0; 1024];
        let (length, _) = socket.recv_from(&mut text).expect("a packet");
        assert_eq!(&text[..length], b"[{\"status\":\"200\"},{\"status\":\"404\"}]");
    }
}
