//! What loggers share: the entry, and the thread that delivers entries in batches.
//!
//! A request never waits for a log: its entry goes into a queue with a bound, and is dropped and
//! counted when that is full.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, LazyLock, OnceLock};
use std::thread;
use std::time::{Duration, Instant, UNIX_EPOCH};

use http::HeaderMap;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use weft_apisix::Variables;

use crate::definition::{Context, decode};
use crate::exchange::Ended;
use crate::plugin::Plugin;
use crate::template::Template;
use crate::variables;

/// The most entries that wait for their delivery (`max_pending_entries`).
const MOST_PENDING: usize = 8192;

/// The schema of a logger: its own settings, which are required, and what all loggers have.
macro_rules! logger_schema {
    ($own:literal, $required:literal) => {
        concat!(
            r#"{"type": "object", "additionalProperties": false, "required": "#,
            $required,
            r#", "properties": {
                "batch_max_size": {"type": "integer", "minimum": 1, "default": 1000},
                "inactive_timeout": {"type": "integer", "minimum": 1, "default": 5},
                "buffer_duration": {"type": "integer", "minimum": 1, "default": 60},
                "retry_delay": {"type": "integer", "minimum": 0, "default": 1},
                "max_retry_count": {"type": "integer", "minimum": 0, "default": 0},
                "name": {"type": "string"},
                "log_format": {"type": "object"}, "#,
            $own,
            "}}"
        )
    };
}
pub(crate) use logger_schema;

/// The schema of a logger's metadata.
pub(crate) const METADATA: &str =
    r#"{"type": "object", "properties": {"log_format": {"type": "object"}}}"#;

/// A plugin that does nothing but log.
#[derive(Debug)]
struct Logger {
    format: Format,
    batches: Arc<Batches>,
    entry: fn(&Format, &Ended) -> Value,
}

/// A plugin whose entries a server takes in batches.
pub(crate) fn logger(
    settings: &Value,
    context: &Context<'_>,
    server: impl Deliver,
    entry: fn(&Format, &Ended) -> Value,
) -> Result<Arc<dyn Plugin>, String> {
    let batch: BatchSettings = decode(settings)?;
    let format = Format::new(settings, context.metadata);
    let batches = context.state(settings, || Batches::new(batch, server));
    Ok(Arc::new(Logger { format, batches, entry }))
}

impl Plugin for Logger {
    fn logs(&self) -> bool {
        true
    }

    fn log(&self, ended: &Ended) {
        self.batches.add((self.entry)(&self.format, ended));
    }
}

/// A server that entries are sent to.
#[derive(Debug, Deserialize)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Address {
    /// What went wrong with it.
    pub(crate) fn failed(&self) -> impl Fn(io::Error) -> String + Copy + '_ {
        move |error| format!("{}:{}: {error}", self.host, self.port)
    }

    /// Connects, each step within the time limit.
    pub(crate) fn connect(&self, limit: Duration) -> io::Result<TcpStream> {
        let stream = TcpStream::connect_timeout(&self.resolve()?, limit)?;
        stream.set_write_timeout(Some(limit))?;
        stream.set_read_timeout(Some(limit))?;
        Ok(stream)
    }

    /// A socket that sends datagrams to it.
    pub(crate) fn datagrams(&self, limit: Duration) -> io::Result<UdpSocket> {
        let server = self.resolve()?;
        let local = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(local)?;
        socket.set_write_timeout(Some(limit))?;
        socket.connect(server)?;
        Ok(socket)
    }

    /// The first address of the host.
    fn resolve(&self) -> io::Result<SocketAddr> {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        let unknown = || io::Error::new(io::ErrorKind::NotFound, "the host has no address");
        (host, self.port).to_socket_addrs()?.next().ok_or_else(unknown)
    }
}

/// How entries are told apart from the way in which they leave.
pub(crate) trait Deliver: fmt::Debug + Send + Sync + 'static {
    /// Delivers a batch.
    fn deliver(&self, entries: &[Value]) -> Result<(), String>;
}

/// `batch_max_size` and so on.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct BatchSettings {
    #[serde(default = "thousand")]
    batch_max_size: usize,
    /// Seconds.
    #[serde(default = "five")]
    inactive_timeout: u64,
    /// Seconds.
    #[serde(default = "sixty")]
    buffer_duration: u64,
    /// Seconds.
    #[serde(default = "one")]
    retry_delay: u64,
    #[serde(default)]
    max_retry_count: u32,
}

fn thousand() -> usize {
    1000
}

fn sixty() -> u64 {
    60
}

fn five() -> u64 {
    5
}

fn one() -> u64 {
    1
}

impl BatchSettings {
    /// As soon as there is something.
    pub(crate) fn at_once() -> Self {
        Self {
            batch_max_size: thousand(),
            inactive_timeout: 0,
            buffer_duration: 0,
            retry_delay: 0,
            max_retry_count: 0,
        }
    }
}

/// A queue of entries and the thread behind it, which begins with the first entry and ends with
/// the queue, when it has delivered what is left.
#[derive(Debug)]
pub(crate) struct Batches {
    settings: BatchSettings,
    target: Arc<dyn Deliver>,
    queue: OnceLock<Option<SyncSender<Value>>>,
    dropped: AtomicU64,
}

impl Batches {
    pub(crate) fn new(settings: BatchSettings, target: impl Deliver) -> Self {
        let (target, queue) = (Arc::new(target), OnceLock::new());
        Self { settings, target, queue, dropped: AtomicU64::new(0) }
    }

    /// Adds an entry, unless the queue is full.
    pub(crate) fn add(&self, entry: Value) {
        let queue = self.queue.get_or_init(|| self.begin());
        let sent = queue.as_ref().map(|queue| queue.try_send(entry));
        if let None | Some(Err(TrySendError::Full(_) | TrySendError::Disconnected(_))) = sent {
            let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
            if dropped.is_power_of_two() {
                tracing::warn!(dropped, target = ?self.target, "log entries are dropped");
            }
        }
    }

    fn begin(&self) -> Option<SyncSender<Value>> {
        let (sender, receiver) = sync_channel(MOST_PENDING);
        let (settings, target) = (self.settings.clone(), Arc::clone(&self.target));
        let thread = thread::Builder::new().name("weft-logger".to_owned());
        let started = thread.spawn(move || run(&receiver, &settings, &*target));
        started.inspect_err(|error| tracing::warn!(%error, "no thread for a logger")).ok()?;
        Some(sender)
    }
}

fn run(queue: &Receiver<Value>, settings: &BatchSettings, target: &dyn Deliver) {
    while let Ok(first) = queue.recv() {
        let begin = Instant::now();
        let mut batch = vec![first];
        let mut open = true;
        while open && batch.len() < settings.batch_max_size {
            let age = Duration::from_secs(settings.buffer_duration);
            let left = age.saturating_sub(begin.elapsed());
            let silence = Duration::from_secs(settings.inactive_timeout).min(left);
            match queue.recv_timeout(silence) {
                Ok(entry) => batch.push(entry),
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => open = false,
            }
        }
        deliver(&batch, settings, target);
    }
}

fn deliver(batch: &[Value], settings: &BatchSettings, target: &dyn Deliver) {
    for attempt in 0..=settings.max_retry_count {
        let Err(error) = target.deliver(batch) else { return };
        tracing::warn!(%error, entries = batch.len(), ?target, "a batch was not delivered");
        if attempt < settings.max_retry_count {
            thread::park_timeout(Duration::from_secs(settings.retry_delay));
        }
    }
}

/// A batch as one text: a list, or the entry alone.
pub(crate) fn joined(entries: &[Value], single: bool) -> String {
    match entries {
        [one] if single => one.to_string(),
        all => Value::from(all).to_string(),
    }
}

/// What an entry is made of.
#[derive(Debug)]
pub(crate) struct Format(Option<Vec<(String, Template)>>);

impl Format {
    /// `log_format` of the settings, else of the metadata, else the whole entry.
    pub(crate) fn new(settings: &Value, metadata: &Value) -> Self {
        let of = |json: &Value| {
            let fields = json["log_format"].as_object()?;
            let field = |(name, value): (&String, &Value)| {
                Some((name.clone(), Template::parse(value.as_str()?)))
            };
            Some(fields.iter().filter_map(field).collect())
        };
        Self(of(settings).or_else(|| of(metadata)))
    }

    pub(crate) fn entry(&self, ended: &Ended) -> Value {
        let Some(fields) = &self.0 else { return whole(ended) };
        let mut entry: Map<_, _> =
            fields.iter().map(|(name, value)| (name.clone(), value.render(ended).into())).collect();
        for (name, value) in ids(ended) {
            entry.insert(name.to_owned(), value);
        }
        entry.into()
    }
}

fn ids(ended: &Ended) -> impl Iterator<Item = (&'static str, Value)> {
    let value = |id: &Option<String>| id.clone().map(Value::from);
    let all = [
        ("route_id", value(&ended.place.route_id)),
        ("service_id", value(&ended.place.service_id)),
    ];
    all.into_iter().filter_map(|(name, value)| Some((name, value?)))
}

/// The entry that APISIX writes unless it is told otherwise.
fn whole(ended: &Ended) -> Value {
    let head = &*ended.request;
    let uri = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let scheme = variables::scheme(head);
    let host = variables::host(head).unwrap_or_default();
    let query: Map<String, Value> =
        form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes())
            .map(|(name, value)| (name.into_owned(), value.into_owned().into()))
            .collect();
    let millis = |duration: Duration| (duration.as_secs_f64() * 1e6).round() / 1e3;
    let latency = millis(ended.started.elapsed());
    let answered = millis(ended.answered.saturating_duration_since(ended.started));
    let started = ended.started_at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut entry = json!({
        "request": {
            "url": format!("{scheme}://{host}:{}{uri}", ended.port),
            "uri": uri,
            "method": head.method.as_str(),
            "headers": headers(&head.headers),
            "querystring": query,
        },
        "response": {"status": ended.status, "headers": headers(&ended.response_headers)},
        "server": {"hostname": *HOSTNAME, "version": env!("CARGO_PKG_VERSION")},
        "upstream": ended.upstream.map(|address| address.to_string()).unwrap_or_default(),
        "client_ip": ended.client.ip().to_string(),
        "start_time": u64::try_from(started.as_millis()).unwrap_or(u64::MAX),
        "latency": latency,
        "upstream_latency": ended.upstream.map(|_| answered),
        "apisix_latency": if ended.upstream.is_some() { (latency - answered).max(0.0) } else { latency },
    });
    for (name, value) in ids(ended) {
        entry[name] = value;
    }
    if let Some(credential) = &ended.consumer {
        entry["consumer"] = json!({"username": credential.consumer.name});
    }
    entry
}

/// The name of this machine.
pub(crate) static HOSTNAME: LazyLock<String> = LazyLock::new(|| {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
});

fn headers(headers: &HeaderMap) -> Map<String, Value> {
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers
        .keys()
        .map(|name| {
            let values: Vec<_> = headers.get_all(name).iter().map(text).collect();
            let value = match <[String; 1]>::try_from(values) {
                Ok([one]) => one.into(),
                Err(several) => several.into(),
            };
            (name.to_string(), value)
        })
        .collect()
}

impl Variables for Ended {
    fn value(&self, name: &str) -> Option<std::borrow::Cow<'_, str>> {
        let text = match name {
            "status" => self.status.to_string(),
            "remote_addr" => self.client.ip().to_string(),
            "remote_port" => self.client.port().to_string(),
            "server_port" => self.port.to_string(),
            "upstream_addr" => self.upstream?.to_string(),
            "request_time" => format!("{:.3}", self.started.elapsed().as_secs_f64()),
            "consumer_name" => self.consumer.as_ref()?.consumer.name.clone(),
            "route_id" => self.place.route_id.clone()?,
            "route_name" => self.place.route_name.clone()?,
            "service_id" => self.place.service_id.clone()?,
            "service_name" => self.place.service_name.clone()?,
            "hostname" => HOSTNAME.clone(),
            "time_iso8601" => time::OffsetDateTime::from(self.started_at)
                .format(&time::format_description::well_known::Rfc3339)
                .ok()?,
            name => {
                if let Some(name) = name.strip_prefix("sent_http_") {
                    return variables::header(&self.response_headers, name);
                }
                return variables::of_head(&self.request, name);
            }
        };
        Some(text.into())
    }
}
