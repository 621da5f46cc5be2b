//! HAProxy's configuration.

use super::{Protocol, Setup, Tls};

pub(super) fn config(setup: &Setup<'_>) -> String {
    let (mode, speaks, option) = match setup.protocol {
        Protocol::Http1 => ("http", "", "http-reuse always"),
        Protocol::Http2 => ("http", "proto h2", "http-reuse always"),
        Protocol::Tcp => ("tcp", "", "option splice-auto"),
    };
    let (bind, server) = match setup.tls {
        Tls::None => (String::new(), String::new()),
        Tls::Upstream(files) => (
            String::new(),
            format!(
                "ssl crt {} ca-file {} verify required sni str(bench)",
                files.both.display(),
                files.root.display()
            ),
        ),
        Tls::Downstream(files) => (
            format!(
                "ssl crt {} ca-file {} verify required",
                files.both.display(),
                files.root.display()
            ),
            String::new(),
        ),
    };
    let threads =
        setup.placement.workers().map_or(String::new(), |workers| format!("nbthread {workers}"));
    format!(
        "global
  {threads}
  maxconn 7000
  maxpipes 64
defaults
  mode {mode}
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend bench
  bind {} {speaks} {bind}
  default_backend backend
backend backend
  {option}
  server one {} {speaks} {server}
",
        setup.listen, setup.backend
    )
}
