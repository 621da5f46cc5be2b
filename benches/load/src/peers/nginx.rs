//! nginx's configuration.

use std::path::Path;

use super::{Setup, Tls};

pub(super) fn config(setup: &Setup<'_>, folder: &Path) -> String {
    let listen = setup.listen;
    let (listener, upstream) = match setup.tls {
        Tls::Downstream(files) => (
            format!(
                "listen {listen} ssl;
    ssl_certificate {};
    ssl_certificate_key {};
    ssl_client_certificate {};
    ssl_verify_client on;",
                files.chain.display(),
                files.key.display(),
                files.root.display()
            ),
            "proxy_pass http://backend;".to_owned(),
        ),
        Tls::Upstream(files) => (
            format!("listen {listen};"),
            format!(
                "proxy_pass https://backend;
      proxy_ssl_certificate {};
      proxy_ssl_certificate_key {};
      proxy_ssl_trusted_certificate {};
      proxy_ssl_name bench;
      proxy_ssl_verify on;
      proxy_ssl_session_reuse on;",
                files.chain.display(),
                files.key.display(),
                files.root.display()
            ),
        ),
        Tls::None => (format!("listen {listen};"), "proxy_pass http://backend;".to_owned()),
    };
    let workers =
        setup.placement.workers().map_or("auto".to_owned(), |workers| workers.to_string());
    format!(
        "daemon off;
worker_processes {2};
pid {0}/nginx-{1}.pid;
error_log {0}/nginx-{1}.error error;
events {{ worker_connections 20000; }}
http {{
  access_log off;
  client_body_temp_path {0}/nginx-body;
  proxy_temp_path {0}/nginx-proxy;
  fastcgi_temp_path {0}/nginx-fastcgi;
  uwsgi_temp_path {0}/nginx-uwsgi;
  scgi_temp_path {0}/nginx-scgi;
  keepalive_requests 100000000;
  keepalive_timeout 600s;
  client_max_body_size 0;
  proxy_request_buffering off;
  proxy_max_temp_file_size 0;
  upstream backend {{ server {3}; keepalive 256; keepalive_requests 100000000; }}
  server {{
    {listener}
    location / {{
      {upstream}
      proxy_http_version 1.1;
      proxy_set_header Connection \"\";
    }}
  }}
}}
",
        folder.display(),
        listen.port(),
        workers,
        setup.backend,
    )
}
