//! `tcp-logger`: entries, in batches, over TCP.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::definition::{Context, Definition, decode};
use crate::logging::{Address, Deliver, Format, METADATA, joined, logger, logger_schema};
use crate::plugin::Plugin;

pub(crate) const DEFINITION: Definition = Definition::new(
    "tcp-logger",
    405,
    logger_schema!(
        r#"
            "host": {"type": "string"},
            "port": {"type": "integer", "minimum": 0},
            "timeout": {"type": "integer", "minimum": 1, "default": 1000}
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
    /// Milliseconds.
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
        let limit = Duration::from_millis(self.timeout);
        let mut stream = self.address.connect(limit).map_err(failed)?;
        let text = joined(entries, self.batch_max_size == 1);
        stream.write_all(text.as_bytes()).map_err(failed)
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
