//! A service that tells its version and who called it.

use std::convert::Infallible;
use std::io::Write;
use std::net::SocketAddr;

use anyhow::{Context, Result};
use bytes::Bytes;
use clap::Args;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};

/// How the service presents itself.
#[derive(Debug, Clone, Args)]
pub struct ServeOptions {
    /// Address and port to listen on
    #[arg(long, default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// Name of the service
    #[arg(long, default_value = "greeter")]
    pub service: String,
    /// Version to tell
    #[arg(long = "service-version", default_value = "v1")]
    pub version: String,
}

/// What the service answers, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Greeting {
    /// The service's name.
    pub service: String,
    /// Its version.
    pub version: String,
    /// The caller's SPIFFE identity as the sidecar proved it; none for plaintext.
    pub caller: Option<String>,
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
///
/// When the address can't be bound.
pub async fn serve(options: &ServeOptions) -> Result<()> {
    let listener = TcpListener::bind(options.listen)
        .await
        .with_context(|| format!("cannot listen on {}", options.listen))?;
    let address = listener.local_addr()?;
    writeln!(std::io::stdout(), "listening on {address}").context("cannot print")?;
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // A connection that was reset before it was accepted is no reason to end.
                if let Ok((stream, _)) = accepted {
                    tokio::spawn(connection(stream, options.clone()));
                }
            }
            _ = terminated.recv() => return Ok(()),
            _ = interrupted.recv() => return Ok(()),
        }
    }
}

async fn connection(stream: TcpStream, options: ServeOptions) {
    let service = service_fn(|request: Request<Incoming>| {
        let answer = answer(&options, request.headers());
        async move { Ok::<_, Infallible>(answer) }
    });
    // The client is told of a broken connection by its breaking.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

fn answer(options: &ServeOptions, headers: &HeaderMap) -> Response<Full<Bytes>> {
    let greeting = Greeting {
        service: options.service.clone(),
        version: options.version.clone(),
        caller: caller(headers),
    };
    let mut body = serde_json::to_vec(&greeting).unwrap_or_default();
    body.push(b'\n');
    let mut response = Response::new(Full::new(Bytes::from(body)));
    let json = hyper::header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, json);
    response
}

/// The direct peer's URI: that of the last element of `x-forwarded-client-cert`.
fn caller(headers: &HeaderMap) -> Option<String> {
    let value = headers.get_all("x-forwarded-client-cert").iter().next_back()?;
    let last = split_outside_quotes(value.to_str().ok()?, ',').pop()?;
    split_outside_quotes(last, ';').into_iter().find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        let found = key.trim().eq_ignore_ascii_case("uri");
        found.then(|| value.trim().trim_matches('"').to_owned())
    })
}

fn split_outside_quotes(text: &str, separator: char) -> Vec<&str> {
    let mut quoted = false;
    text.split(|letter| {
        quoted ^= letter == '"';
        letter == separator && !quoted
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller_of(value: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-client-cert", value.parse().unwrap());
        caller(&headers)
    }

    #[test]
    fn the_caller_is_the_last_elements_uri() {
        let header = r#"By=spiffe://a/ns/x/sa/y;URI=spiffe://a/first,Hash=1;Subject="CN=a,O=b;c";URI=spiffe://a/ns/demo/sa/client"#;
        assert_eq!(caller_of(header).as_deref(), Some("spiffe://a/ns/demo/sa/client"));
    }

    #[test]
    fn a_separator_in_quotes_does_not_separate() {
        let header = r#"Subject="CN=a;URI=spiffe://forged,";Hash=1"#;
        assert_eq!(caller_of(header), None);
    }

    #[test]
    fn without_the_header_nobody_is_known() {
        assert_eq!(caller(&HeaderMap::new()), None);
    }
}
