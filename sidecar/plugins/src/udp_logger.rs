//! `udp-logger`: entries, in batches, over UDP.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::definition::{Context, Definition, decode};
use crate::logging::{Address, Deliver, Format, METADATA, joined, logger, logger_schema};
use crate::plugin::Plugin;

pub(crate) const DEFINITION: Definition = Definition::new(
    "udp-logger",
    400,
    logger_schema!(
        r#"
            "host": {"type": "string"},
            "port": {"type": "integer", "minimum": 0},
            "timeout": {"type": "integer", "minimum": 1, "default": 3}
        "#,
        r#"["host", "port"]"#
    ),
    compile,
)
.with_metadata(METADATA);

/// A server, and how entries go there.
#[derive(Debug, Deserialize)]
struct Server {
    #[serde(flatten)]
    address: Address,
    /// Seconds.
    timeout: u64,
    /// With 1, an entry goes alone, without a list around it.
    batch_max_size: usize,
}

fn compile(settings: &Value, context: &Context<'_>) -> Result<Arc<dyn Plugin>, String> {
    logger(settings, context, decode::<Server>(settings)?, Format::entry)
}

impl Deliver for Server {
    fn deliver(&self, entries: &[Value]) -> Result<(), String> {
        let failed = self.address.failed();
        let limit = Duration::from_secs(self.timeout);
        let socket = self.address.datagrams(limit).map_err(failed)?;
        let text = joined(entries, self.batch_max_size == 1);
        socket.send(text.as_bytes()).map(drop).map_err(failed)
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
