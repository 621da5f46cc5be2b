//! Whole connections through a worker: listener filters, either codec, the connection manager with
//! its normalisation of paths, and filters that read what clients send.

use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::LocalRuntime;
use tokio::sync::mpsc;
use tokio::task::spawn_local;
use weft_config::{BootstrapConfig, Engine};
use weft_http::WorkerCx;
use weft_model::SnapshotPublisher;
use weft_net::{Drain, DrainPlan, ListenerEvent, ListenerOptions, ListenerSet};
use weft_telemetry::Registry;

use crate::Target;

pub(super) const CONNECTION: Target = Target {
    name: "connection",
    run: connection,
    seeds: connections,
    words: &[
        "GET / HTTP/1.1\r\nhost: a\r\n\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
        "\r\n",
        "host: a\r\n",
        "#",
        "//",
        "..",
        "x-forwarded-for: ",
        "x-envoy-original-path: ",
        "x-forwarded-proto: https\r\n",
        "grpc-timeout: 1S\r\n",
        "x-request-id: ",
        "content-type: application/grpc\r\n",
        "authorization: Bearer ",
        "cookie: ",
        "x_y: z\r\n",
        "x-envoy-upstream-rq-timeout-ms: ",
        "origin: http://a\r\n",
        "range: bytes=0-\r\n",
        "CONNECT a:1 HTTP/1.1\r\n",
        "connection: upgrade\r\nupgrade: websocket\r\n",
        "OPTIONS * HTTP/1.1\r\n",
        "http://a/",
    ],
    quick: 1_500,
};
pub(super) const PATH: Target = Target {
    name: "path",
    run: path,
    seeds: paths,
    words: &[
        "/", "//", "/..", "/.", "%2e", "%2F", "%5c", "\\", "%00", "%", "?", "#", "*", "http://a",
    ],
    quick: 1_500,
};
pub(super) const TOKEN: Target = Target {
    name: "token",
    run: token,
    seeds: tokens,
    words: &[
        "\"alg\"",
        "\"HS256\"",
        "\"none\"",
        "\"kid\"",
        "\"iss\"",
        "\"aud\"",
        "\"exp\"",
        "{",
        "[",
        "null",
        ".",
        "1e999",
        "\\u0000",
    ],
    quick: 1_500,
};

const SECRET: &[u8] = b"secret";
const CONFIG: &str = include_str!("proxy.yaml");
/// How long a connection may take that waits for nothing.
const LONGEST: Duration = Duration::from_secs(20);

/// A worker that serves.
struct Proxy {
    runtime: LocalRuntime,
    address: SocketAddr,
    _engine: Engine,
}

thread_local! {
    // Never dropped: what its tasks use of the thread would be gone before them.
    static PROXY: &'static Proxy = Box::leak(Box::new(Proxy::new()));
}

impl Proxy {
    fn new() -> Self {
        let bootstrap = BootstrapConfig::parse(Path::new("proxy.yaml"), CONFIG);
        let bootstrap = bootstrap.unwrap_or_else(|error| panic!("{error}"));
        let publisher = SnapshotPublisher::new();
        let watch = publisher.watch();
        let engine = Engine::new(bootstrap, Registry::new(), publisher, Instant::now());
        let engine = engine.unwrap_or_else(|error| panic!("{error}"));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build_local(tokio::runtime::LocalOptions::default())
            .expect("a runtime can be made");
        let address = runtime.block_on(async {
            let cx = WorkerCx::new(watch.clone(), 1);
            let (events, mut heard) = mpsc::channel(8);
            let options = ListenerOptions {
                snapshot: watch,
                worker: 0,
                drain: Drain::new(),
                drain_plan: DrainPlan { announce: Duration::ZERO, close: Duration::ZERO },
                events: Rc::new(move |event| drop(events.try_send(event))),
            };
            let serve = move |established| weft_http::serve(established, Rc::clone(&cx));
            spawn_local(ListenerSet::new(options, serve).run(|_| ()));
            match heard.recv().await {
                Some(ListenerEvent::Bound { bound: Some(address), .. }) => address,
                other => panic!("it does not listen: {other:?}"),
            }
        });
        Self { runtime, address, _engine: engine }
    }

    /// Sends all of `bytes` and reads to the end.
    fn answer(&self, bytes: &[u8]) -> Vec<u8> {
        self.runtime.block_on(async {
            let exchange = async {
                let stream = TcpStream::connect(self.address).await;
                let (mut reader, mut writer) = stream.expect("it listens").into_split();
                let mut answer = Vec::new();
                let writing = async {
                    // It may be closed before it has read everything.
                    let _ = writer.write_all(bytes).await;
                    let _ = writer.shutdown().await;
                };
                let (_, _) = tokio::join!(writing, reader.read_to_end(&mut answer));
                answer
            };
            tokio::time::timeout(LONGEST, exchange).await.expect("the connection never ends")
        })
    }
}

fn answer(bytes: &[u8]) -> Vec<u8> {
    PROXY.with(|proxy| proxy.answer(bytes))
}

fn connection(input: &[u8]) {
    let size = answer(input).len();
    assert!(size <= 64 * (input.len() + 64), "{size} bytes for {}", input.len());
}

fn path(input: &[u8]) {
    let Some(seen) = seen_path(input) else { return };
    let text = String::from_utf8_lossy(&seen).into_owned();
    let plain = text.split(['?', '#']).next().unwrap_or_default();
    let escapes = ["//", "/./", "/../", "\\", "%2f", "%2F", "%5c", "%5C", "%2e", "%2E"];
    for bad in escapes {
        assert!(!plain.contains(bad), "{text:?} holds {bad}");
    }
    assert!(plain.starts_with('/') && !plain.ends_with("/.."), "{text:?}");
    assert_eq!(seen_path(&seen), Some(seen.clone()), "{text:?} is not what it says");
}

/// The path that the route saw, if the request was served.
fn seen_path(path: &[u8]) -> Option<Vec<u8>> {
    let path: Vec<u8> = path.iter().map(|byte| if *byte <= b' ' { b'/' } else { *byte }).collect();
    let request =
        [b"GET ", &path[..], b" HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"].concat();
    let answer = answer(&request);
    assert!(answer.starts_with(b"HTTP/1.1 "), "{}", answer.escape_ascii());
    let mut lines = answer.split(|byte| *byte == b'\n');
    let value = lines.find_map(|line| line.strip_prefix(b"x-path: "))?;
    Some(value.strip_suffix(b"\r").unwrap_or(value).to_vec())
}

/// A token as text, or (after a NUL) its header and its payload, which are then signed.
fn token(input: &[u8]) {
    let text = match input {
        [0, parts @ ..] => {
            let at = parts.iter().position(|byte| *byte == 0).unwrap_or(parts.len());
            let (header, payload) = parts.split_at(at);
            signed(header, payload.get(1..).unwrap_or_default())
        }
        text => text.to_vec(),
    };
    let text: Vec<u8> = text.into_iter().filter(|byte| *byte > b' ' && *byte < 0x7f).collect();
    let request = [
        b"GET /token HTTP/1.1\r\nhost: a\r\nconnection: close\r\nauthorization: Bearer ",
        &text[..],
        b"\r\n\r\n",
    ];
    let answer = answer(&request.concat());
    let status = answer.get(9..12).unwrap_or_default();
    let known = [b"200", b"401", b"403", b"431"].iter().any(|known| *known == status);
    assert!(known, "{}", answer.escape_ascii());
}

fn signed(header: &[u8], payload: &[u8]) -> Vec<u8> {
    let [header, payload] = [header, payload].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part));
    let signed = format!("{header}.{payload}");
    let key = EncodingKey::from_secret(SECRET);
    let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &key, Algorithm::HS256);
    format!("{signed}.{}", signature.expect("invariant: the key fits")).into_bytes()
}

fn connections() -> Vec<Vec<u8>> {
    let texts = [
        "GET /a/../b HTTP/1.1\r\nhost: a.example\r\nx-forwarded-for: 1.2.3.4, 5.6.7.8\r\n\r\n",
        "PROXY TCP4 10.0.0.1 10.0.0.2 4000 80\r\nGET /redirect?x HTTP/1.1\r\nhost: a\r\n\r\n",
        "POST /dead HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhelloGET / HTTP/1.0\r\n\r\n",
        "OPTIONS /cors HTTP/1.1\r\nhost: a\r\norigin: http://b\r\naccess-control-request-method: GET\r\n\r\n",
        "GET /token HTTP/1.1\r\nhost: a\r\nauthorization: Bearer a.b.c\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x06\x01\x05\0\0\0\x01\u{1}",
        "GET /rewrite/x HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        "CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n",
    ];
    let mut all: Vec<_> = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    all.push(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x06\x01\x05\0\0\0\x01\x82\x86\x84\x41\x01a".to_vec());
    all
}

fn paths() -> Vec<Vec<u8>> {
    [
        "/a/./b/../c",
        "//a///b",
        "/%2e%2e/%41%7e?x=/../y",
        "/a%2fb%5Cc\\d",
        "/..",
        "/x#y",
        "http://a/b",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

fn tokens() -> Vec<Vec<u8>> {
    let header = br#"{"alg":"HS256","kid":"k","typ":"JWT"}"#;
    let payload =
        br#"{"iss":"me","aud":["shop"],"exp":9999999999,"nbf":1,"sub":"a","nested":{"x":[1]}}"#;
    let bad = br#"{"iss":"me","exp":-1e30}"#;
    vec![
        signed(header, payload),
        [b"\0", &header[..], b"\0", payload].concat(),
        [b"\0", &header[..], b"\0", bad].concat(),
        b"a.b.c".to_vec(),
    ]
}
