//! `http-logger`: entries, in batches, to a server.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use serde::Deserialize;
use serde_json::Value;

use crate::definition::{Context, Definition, decode};
use crate::exchange::Ended;
use crate::logging::{Address, Deliver, Format, METADATA, logger, logger_schema};
use crate::plugin::Plugin;

pub(crate) const DEFINITION: Definition = Definition::new(
    "http-logger",
    410,
    logger_schema!(
        r#"
            "uri": {"type": "string", "pattern": "^http://[^/]+"},
            "auth_header": {"type": "string"},
            "timeout": {"type": "integer", "minimum": 1, "default": 3},
            "concat_method": {
                "type": "string", "enum": ["json", "new_line"], "default": "json"
            },
            "ssl_verify": {"type": "boolean", "default": false}
        "#,
        r#"["uri"]"#
    ),
    compile,
)
.with_metadata(METADATA);

#[derive(Debug)]
struct Server {
    uri: Uri,
    address: Address,
    authorization: Option<String>,
    timeout: Duration,
    lines: bool,
    /// Whether an entry goes alone, without a list around it.
    single: bool,
}

fn compile(settings: &Value, context: &Context<'_>) -> Result<Arc<dyn Plugin>, String> {
    #[derive(Deserialize)]
    struct Raw {
        uri: String,
        auth_header: Option<String>,
        timeout: u64,
        concat_method: String,
        batch_max_size: usize,
    }
    let raw: Raw = decode(settings)?;
    let uri: Uri = raw.uri.parse().map_err(|_| format!("invalid uri: {}", raw.uri))?;
    let host = uri.host().unwrap_or_default().to_owned();
    let server = Server {
        address: Address { host, port: uri.port_u16().unwrap_or(80) },
        uri,
        authorization: raw.auth_header,
        timeout: Duration::from_secs(raw.timeout),
        lines: raw.concat_method == "new_line",
        single: raw.batch_max_size == 1,
    };
    logger(settings, context, server, entry)
}

fn entry(format: &Format, ended: &Ended) -> Value {
    let mut entry = format.entry(ended);
    if entry.get("route_id").is_none() {
        entry["route_id"] = "no-matched".into();
    }
    entry
}

impl Server {
    fn body(&self, entries: &[Value]) -> String {
        match entries {
            [one] if self.single => one.to_string(),
            all if self.lines => {
                let lines: Vec<_> = all.iter().map(Value::to_string).collect();
                lines.join("\n")
            }
            all => Value::from(all).to_string(),
        }
    }
}

impl Deliver for Server {
    fn deliver(&self, entries: &[Value]) -> Result<(), String> {
        let failed = self.address.failed();
        let host = &self.address.host;
        let mut stream = self.address.connect(self.timeout).map_err(failed)?;
        let path = self.uri.path_and_query().map_or("/", |path| path.as_str());
        let kind = if self.lines { "text/plain" } else { "application/json" };
        let authorization = self.authorization.as_ref();
        let authorization = authorization.map(|value| format!("Authorization: {value}\r\n"));
        let body = self.body(entries);
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {kind}\r\n{}\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            authorization.unwrap_or_default(),
            body.len()
        );
        stream.write_all(request.as_bytes()).map_err(failed)?;
        // "HTTP/1.1 200"
        let mut status = [0; 12];
        stream.read_exact(&mut status).map_err(failed)?;
        match status[9] {
            b'1'..=b'3' => Ok(()),
            _ => Err(failed(io::Error::other(String::from_utf8_lossy(&status)))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use serde_json::{Value, json};

    use crate::testing::{Case, refused};

    #[test]
    fn batches_are_posted() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let settings = json!({
            "uri": format!("http://127.0.0.1:{port}/logs?a=1"), "auth_header": "Basic x",
            "batch_max_size": 2, "log_format": {"uri": "$uri"},
        });
        let case = Case::new("http-logger", settings);
        for uri in ["/a", "/b"] {
            case.again().get(uri).run().respond(200);
        }
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut request = Vec::new();
        while !request.ends_with(b"]") {
            let mut part = [0; 4096];
            let length = stream.read(&mut part).expect("a request");
            request.extend_from_slice(&part[..length]);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").expect("an answer");
        let request = String::from_utf8(request).expect("text");
        let (head, body) = request.split_once("\r\n\r\n").expect("a body");
        assert!(head.starts_with("POST /logs?a=1 HTTP/1.1\r\nHost: 127.0.0.1\r\n"), "{head}");
        assert!(head.contains("\r\nAuthorization: Basic x\r\n"), "{head}");
        let body: Value = serde_json::from_str(body).expect("JSON");
        let route = "no-matched";
        assert_eq!(
            body,
            json!([
                {"uri": "/a", "route_id": route}, {"uri": "/b", "route_id": route},
            ])
        );
    }

    #[test]
    fn what_is_not_done_is_refused() {
        let error = refused("http-logger", json!({"uri": "https://a.com/"}));
        assert!(error.contains("failed to match pattern"), "{error}");
        let error = refused("http-logger", json!({"uri": "http://a", "include_req_body": true}));
        assert_eq!(error, "additional properties forbidden, found include_req_body");
    }
}
