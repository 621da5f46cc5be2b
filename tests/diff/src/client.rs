//! The client of a case: sends, and writes down what comes back.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::case::Case;
use crate::http1::Reader;
use crate::http2::{self, Client};
use crate::record::Page;
use crate::upstream::PROBE;

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(5);
/// How long a client waits before it ends its side, so that the proxy has handled what came before:
/// an end in the same read is another case, and hangs on chance.
const SETTLED: Duration = Duration::from_millis(100);

/// Plays a case and writes down what the client sees.
pub(crate) async fn play(case: &Case, address: SocketAddr, page: &mut Page) -> Result<()> {
    if case.http2 {
        return over_http2(case, address, page).await;
    }
    let sent = match &case.request {
        Some(request) => vec![head_and_body(case, request)?],
        None => case.raw.clone(),
    };
    over_http1(case, &sent, address, page).await
}

fn head_and_body(case: &Case, request: &str) -> Result<String> {
    let (method, path) = request.split_once(' ').context("a method and a path")?;
    let mut text = format!("{method} {path} HTTP/1.1\r\n");
    if !case.host.is_empty() {
        text.push_str(&format!("host: {}\r\n", case.host));
    }
    for header in &case.headers {
        text.push_str(&format!("{header}\r\n"));
    }
    if let Some(body) = &case.body {
        text.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    Ok(format!("{text}\r\n{}", case.body.as_deref().unwrap_or_default()))
}

async fn over_http1(
    case: &Case,
    sent: &[String],
    address: SocketAddr,
    page: &mut Page,
) -> Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (from, mut to) = stream.split();
    let mut responses = Reader::new(from);
    for (index, text) in sent.iter().enumerate() {
        // A proxy that has closed already is noticed when reading.
        let _ = to.write_all(text.as_bytes()).await;
        if case.half_close && index + 1 == sent.len() {
            tokio::time::sleep(SETTLED).await;
            let _ = to.shutdown().await;
        }
        if !read_final(&mut responses, text.starts_with("HEAD "), page).await? {
            return Ok(());
        }
    }
    let probe = format!("GET {PROBE} HTTP/1.1\r\nhost: diff.test\r\n\r\n");
    let _ = to.write_all(probe.as_bytes()).await;
    let lives = matches!(timeout(LIMIT, responses.response(false)).await?, Ok(Some(_)));
    page.line(if lives { "connection: open" } else { "connection: closed" });
    Ok(())
}

/// Reads up to a response that is not informational; false: nothing can follow.
async fn read_final<R: tokio::io::AsyncRead + Unpin>(
    responses: &mut Reader<R>,
    head: bool,
    page: &mut Page,
) -> Result<bool> {
    loop {
        let Ok(response) = timeout(LIMIT, responses.response(head)).await else {
            page.line("client: nothing within the limit");
            return Ok(false);
        };
        let Some(response) = response? else {
            let rest = responses.rest().await;
            page.line("client: no response");
            if !rest.is_empty() {
                page.line(&format!("  bytes: {}", String::from_utf8_lossy(&rest).escape_debug()));
            }
            page.line("connection: closed");
            return Ok(false);
        };
        page.message("client:", &response);
        match response.status() {
            Some(101) => {
                match timeout(LIMIT, responses.rest()).await {
                    Ok(rest) => {
                        let rest = String::from_utf8_lossy(&rest);
                        page.line(&format!("  then: {}", rest.escape_debug()));
                        page.line("connection: closed");
                    }
                    Err(_) => page.line("connection: open, and silent"),
                }
                return Ok(false);
            }
            Some(100..=199) => {}
            _ if response.framing == "close" || !response.whole => {
                page.line("connection: closed");
                return Ok(false);
            }
            _ => return Ok(true),
        }
    }
}

async fn over_http2(case: &Case, address: SocketAddr, page: &mut Page) -> Result<()> {
    let mut client = Client::connect(address).await?;
    let request = case.request.as_deref().context("a request")?;
    match timeout(LIMIT, client.send(case, request)).await {
        Ok(Ok(response)) => page.message("client:", &response),
        Ok(Err(error)) => match error.downcast_ref::<h2::Error>() {
            Some(error) => page.line(&format!("client: ended by {}", http2::reason(error))),
            None => return Err(error),
        },
        Err(_) => page.line("client: nothing within the limit"),
    }
    let probe = probe_case();
    let lives = timeout(LIMIT, client.send(&probe, &format!("GET {PROBE}"))).await?.is_ok();
    page.line(if lives { "connection: open" } else { "connection: closed" });
    Ok(())
}

fn probe_case() -> Case {
    Case {
        name: String::new(),
        request: None,
        headers: Vec::new(),
        host: "diff.test".to_owned(),
        body: None,
        trailers: Vec::new(),
        protocol: None,
        http2: true,
        raw: Vec::new(),
        half_close: false,
        upstream: Vec::new(),
        counters: Vec::new(),
        differs: None,
    }
}
