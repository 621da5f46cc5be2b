//! `syslog`: entries as messages of syslog (RFC 5424).

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::Deserialize;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::definition::{Context, Definition, decode};
use crate::exchange::Ended;
use crate::logging::{Address, Deliver, Format, METADATA, logger, logger_schema};
use crate::plugin::Plugin;
use crate::variables;

pub(crate) const DEFINITION: Definition = Definition::new(
    "syslog",
    401,
    logger_schema!(
        r#"
            "host": {"type": "string"},
            "port": {"type": "integer"},
            "flush_limit": {"type": "integer", "minimum": 1, "default": 4096},
            "drop_limit": {"type": "integer", "default": 1048576},
            "timeout": {"type": "integer", "minimum": 1, "default": 3000},
            "sock_type": {"type": "string", "enum": ["tcp", "udp"], "default": "tcp"},
            "pool_size": {"type": "integer", "minimum": 5, "default": 5}
        "#,
        r#"["host", "port"]"#
    ),
    compile,
)
.with_metadata(METADATA);

/// The facility SYSLOG (5) with the severity INFO (6).
const PRIORITY: u8 = 5 * 8 + 6;

/// A server, and how messages go there.
#[derive(Debug, Deserialize)]
struct Server {
    #[serde(flatten)]
    address: Address,
    /// Milliseconds.
    timeout: u64,
    /// `tcp` or `udp`
    sock_type: String,
}

fn compile(settings: &Value, context: &Context<'_>) -> Result<Arc<dyn Plugin>, String> {
    logger(settings, context, decode::<Server>(settings)?, entry)
}

fn entry(format: &Format, ended: &Ended) -> Value {
    let host = variables::host(&ended.request).unwrap_or("-".into());
    message(&host, &format.entry(ended)).into()
}

fn message(host: &str, entry: &Value) -> String {
    let now = OffsetDateTime::from(SystemTime::now()).format(&Rfc3339).unwrap_or_default();
    let process = std::process::id();
    format!("<{PRIORITY}>1 {now} {host} apisix {process} - - {entry}\n")
}

impl Deliver for Server {
    fn deliver(&self, entries: &[Value]) -> Result<(), String> {
        let failed = self.address.failed();
        let limit = Duration::from_millis(self.timeout);
        let mut messages = entries.iter().filter_map(Value::as_str);
        if self.sock_type == "udp" {
            let socket = self.address.datagrams(limit).map_err(failed)?;
            return messages
                .try_for_each(|message| socket.send(message.as_bytes()).map(drop))
                .map_err(failed);
        }
        let mut stream = self.address.connect(limit).map_err(failed)?;
        stream.write_all(messages.collect::<String>().as_bytes()).map_err(failed)
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
