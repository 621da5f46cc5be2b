//! `syslog`: entries as messages of syslog (RFC 5424).

use std::io::Write;
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::Deserialize;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::definition::{Context, Definition, decode};
use crate::exchange::Ended;
use crate::logging::{BatchSettings, Batches, Deliver, Format, connect, resolve};
use crate::plugin::Plugin;
use crate::variables;

pub(crate) const DEFINITION: Definition = Definition::new(
    "syslog",
    401,
    r#"{
        "type": "object",
        "properties": {
            "host": {"type": "string"},
            "port": {"type": "integer"},
            "flush_limit": {"type": "integer", "minimum": 1, "default": 4096},
            "drop_limit": {"type": "integer", "default": 1048576},
            "timeout": {"type": "integer", "minimum": 1, "default": 3000},
            "sock_type": {"type": "string", "enum": ["tcp", "udp"], "default": "tcp"},
            "pool_size": {"type": "integer", "minimum": 5, "default": 5},
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

/// The facility SYSLOG (5) with the severity INFO (6).
const PRIORITY: u8 = 5 * 8 + 6;

#[derive(Debug)]
struct Syslog {
    format: Format,
    batches: Arc<Batches>,
}

#[derive(Debug)]
struct Server {
    host: String,
    port: u16,
    timeout: Duration,
    udp: bool,
}

fn compile(settings: &Value, context: &Context<'_>) -> Result<Arc<dyn Plugin>, String> {
    #[derive(Deserialize)]
    struct Raw {
        host: String,
        port: u16,
        /// Milliseconds.
        timeout: u64,
        sock_type: String,
    }
    let raw: Raw = decode(settings)?;
    let server = Server {
        host: raw.host,
        port: raw.port,
        timeout: Duration::from_millis(raw.timeout),
        udp: raw.sock_type == "udp",
    };
    let batch: BatchSettings = decode(settings)?;
    Ok(Arc::new(Syslog {
        format: Format::new(settings, context.metadata),
        batches: context.state(settings, || Batches::new(batch, server)),
    }))
}

impl Plugin for Syslog {
    fn logs(&self) -> bool {
        true
    }

    fn log(&self, ended: &Ended) {
        let host = variables::host(&ended.request).unwrap_or("-".into());
        let entry = self.format.entry(ended);
        self.batches.add(message(&host, &entry).into());
    }
}

fn message(host: &str, entry: &Value) -> String {
    let now = OffsetDateTime::from(SystemTime::now()).format(&Rfc3339).unwrap_or_default();
    let process = std::process::id();
    format!("<{PRIORITY}>1 {now} {host} apisix {process} - - {entry}\n")
}

impl Deliver for Server {
    fn deliver(&self, entries: &[Value]) -> Result<(), String> {
        let failed = |error: std::io::Error| format!("{}:{}: {error}", self.host, self.port);
        let messages = entries.iter().filter_map(Value::as_str);
        if !self.udp {
            let mut stream = connect(&self.host, self.port, self.timeout).map_err(failed)?;
            return stream.write_all(messages.collect::<String>().as_bytes()).map_err(failed);
        }
        let server = resolve(&self.host, self.port).map_err(failed)?;
        let local = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(local).map_err(failed)?;
        for message in messages {
            socket.send_to(message.as_bytes(), server).map_err(failed)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use serde_json::json;

    use crate::testing::Case;

    #[test]
    fn a_message_is_sent() {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let port = socket.local_addr().expect("an address").port();
        let settings = json!({
            "host": "127.0.0.1", "port": port, "sock_type": "udp", "batch_max_size": 1,
            "log_format": {"uri": "$uri"},
        });
        Case::new("syslog", settings).get("/a").run().respond(200);
        let mut text = [0; 1024];
        let (length, _) = socket.recv_from(&mut text).expect("a packet");
        let text = std::str::from_utf8(&text[..length]).expect("text");
        let parts: Vec<_> = text.splitn(8, ' ').collect();
        assert_eq!((parts[0], parts[2], parts[3]), ("<46>1", "shop", "apisix"), "{text}");
        assert_eq!(parts[7], "{\"uri\":\"/a\"}\n");
    }
}
