//! A client that calls a service in plain HTTP and tells what came back.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use clap::Args;
use http_body_util::Full;
use hyper::{Request, Uri};
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};

use super::Greeting;
use crate::http::Connection;

/// What is called, and how often.
#[derive(Debug, Clone, Args)]
pub struct CallOptions {
    /// Where to, for example http://greeter/
    pub url: Uri,
    /// Number of requests
    #[arg(long, default_value_t = 1, conflicts_with = "until_terminated")]
    pub count: u64,
    /// Go on until SIGTERM
    #[arg(long)]
    pub until_terminated: bool,
    /// Connections that are used at the same time
    #[arg(long, default_value_t = 1)]
    pub connections: usize,
    /// Pause between two requests of a connection, in milliseconds
    #[arg(long, default_value_t = 0)]
    pub pause_ms: u64,
    /// How long one request may take, in milliseconds
    #[arg(long, default_value_t = 5000)]
    pub timeout_ms: u64,
    /// A header to send, as name:value
    #[arg(long = "header", value_parser = header)]
    pub headers: Vec<(String, String)>,
    /// Print a summary instead of each answer
    #[arg(long)]
    pub summary: bool,
}

/// What became of one request; a line of JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// When the request was sent, in Unix milliseconds.
    pub at: u64,
    /// The status of the answer; none if there was no answer.
    pub status: Option<u16>,
    /// The greeting, if the answer was one.
    pub greeting: Option<Greeting>,
    /// What went wrong, if there was no answer.
    pub error: Option<String>,
}

impl Outcome {
    /// Whether the service answered as it should.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.status == Some(200) && self.greeting.is_some()
    }
}

/// Calls, prints, and exits with 1 if a request failed.
///
/// # Errors
///
/// When the address is none, or nothing can be printed.
pub async fn call(options: &CallOptions) -> Result<ExitCode> {
    let target = Target::parse(&options.url)?;
    let stop = Arc::new(AtomicBool::new(false));
    let mut terminated = signal(SignalKind::terminate())?;
    let on_signal = stop.clone();
    tokio::spawn(async move {
        terminated.recv().await;
        on_signal.store(true, Ordering::Relaxed);
    });
    let shared = Arc::new(Shared {
        target,
        options: options.clone(),
        left: AtomicU64::new(if options.until_terminated { u64::MAX } else { options.count }),
        stop,
        tally: Mutex::default(),
    });
    let callers: Vec<_> = (0..options.connections.max(1))
        .map(|_| tokio::spawn(run_connection(shared.clone())))
        .collect();
    for caller in callers {
        caller.await??;
    }
    let tally = shared.tally.lock().unwrap_or_else(PoisonError::into_inner);
    if options.summary {
        print_line(&*tally)?;
    }
    Ok(if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

struct Shared {
    target: Target,
    options: CallOptions,
    left: AtomicU64,
    stop: Arc<AtomicBool>,
    tally: Mutex<Tally>,
}

#[derive(Debug, Default, Serialize)]
struct Tally {
    requests: u64,
    failed: u64,
    versions: BTreeMap<String, u64>,
    callers: BTreeMap<String, u64>,
    failures: BTreeMap<String, u64>,
}

impl Shared {
    fn take_one(&self) -> bool {
        let take = |left: u64| left.checked_sub(1);
        !self.stop.load(Ordering::Relaxed)
            && self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    fn record(&self, outcome: &Outcome) -> Result<()> {
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.requests += 1;
        if outcome.is_success() {
            if let Some(greeting) = &outcome.greeting {
                *tally.versions.entry(greeting.version.clone()).or_default() += 1;
                let caller = greeting.caller.clone().unwrap_or_else(|| "unknown".to_owned());
                *tally.callers.entry(caller).or_default() += 1;
            }
        } else {
            tally.failed += 1;
            let status = outcome.status.map(|status| format!("status {status}"));
            let why = status.or_else(|| outcome.error.clone()).unwrap_or_default();
            *tally.failures.entry(why).or_default() += 1;
        }
        drop(tally);
        if self.options.summary { Ok(()) } else { print_line(outcome) }
    }
}

#[derive(Debug, Clone)]
struct Target {
    host: String,
    port: u16,
    path: String,
}

impl Target {
    fn parse(url: &Uri) -> Result<Self> {
        if url.scheme_str() != Some("http") {
            bail!("{url}: only http:// is called; the sidecar does the encryption");
        }
        let host = url.host().with_context(|| format!("{url} has no host"))?;
        let path = url.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self {
            host: host.to_owned(),
            port: url.port_u16().unwrap_or(80),
            path: path.to_owned(),
        })
    }

    fn request(&self, headers: &[(String, String)]) -> Result<Request<Full<Bytes>>> {
        let host = match self.port {
            80 => self.host.clone(),
            port => format!("{}:{port}", self.host),
        };
        let mut request = crate::http::get(&host, &self.path)?;
        for (name, value) in headers {
            let name: hyper::header::HeaderName = name.parse()?;
            request.headers_mut().append(name, value.parse()?);
        }
        Ok(request)
    }
}

async fn run_connection(shared: Arc<Shared>) -> Result<()> {
    let limit = Duration::from_millis(shared.options.timeout_ms);
    let pause = Duration::from_millis(shared.options.pause_ms);
    let mut connection = None;
    while shared.take_one() {
        let at = unix_millis();
        let result = tokio::time::timeout(limit, one_request(&shared, &mut connection)).await;
        let outcome = match result.unwrap_or_else(|_| Err(anyhow!("no answer within {limit:?}"))) {
            Ok((status, greeting)) => Outcome { at, status: Some(status), greeting, error: None },
            Err(error) => {
                connection = None;
                Outcome { at, status: None, greeting: None, error: Some(format!("{error:#}")) }
            }
        };
        shared.record(&outcome)?;
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }
    Ok(())
}

/// Sends one request; a connection that the other side closed between two
/// requests is replaced, a request that fails under way is not repeated.
async fn one_request(
    shared: &Shared,
    open: &mut Option<Connection>,
) -> Result<(u16, Option<Greeting>)> {
    let reusable = match open {
        Some(connection) => connection.is_ready().await,
        None => false,
    };
    if !reusable {
        let Target { host, port, .. } = &shared.target;
        let stream = TcpStream::connect((host.as_str(), *port)).await.context("cannot connect")?;
        stream.set_nodelay(true)?;
        *open = Some(Connection::open(stream).await?);
    }
    let connection = open.as_mut().context("no connection")?;
    let request = shared.target.request(&shared.options.headers)?;
    let response = connection.send(request).await?;
    let greeting = serde_json::from_slice(response.body()).ok();
    Ok((response.status().as_u16(), greeting))
}

fn print_line(line: &impl Serialize) -> Result<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    std::io::stdout().lock().write_all(&text).context("cannot print")
}

fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("a header is written name:value")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}
