//! HAProxy's configuration.

use std::net::SocketAddr;

use super::Side;

pub(super) fn config(side: Side<'_>, listen: SocketAddr, backend: SocketAddr) -> String {
    let (mode, bind, server) = match side {
        Side::Http1 => ("http", String::new(), String::new()),
        Side::Http2 => ("http", "proto h2".to_owned(), "proto h2".to_owned()),
        Side::Tcp => ("tcp", String::new(), String::new()),
        Side::MtlsClient(files) => (
            "http",
            String::new(),
            format!(
                "ssl crt {} ca-file {} verify required sni str(bench)",
                files.both.display(),
                files.root.display()
            ),
        ),
        Side::MtlsServer(files) => (
            "http",
            format!(
                "ssl crt {} ca-file {} verify required",
                files.both.display(),
                files.root.display()
            ),
            String::new(),
        ),
    };
    let splice = if mode == "tcp" { "option splice-auto\n  " } else { "http-reuse always\n  " };
    format!(
        "global
  nbthread 1
  maxconn 4000
defaults
  mode {mode}
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend bench
  bind {listen} {bind}
  default_backend backend
backend backend
  {splice}server one {backend} {server}
"
    )
}
