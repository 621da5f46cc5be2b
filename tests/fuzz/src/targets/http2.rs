//! HTTP/2 at both ends.
//!
//! Frames are written down in a short form that mutations rarely break: type, flags, stream and
//! length are one byte each. A type of [`RAW`] means bytes as they are.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri};
use tokio::task::spawn_local;
use tokio::time::{Sleep, timeout};
use weft_codec::http2::{Client, Pings, Reply, Server, ServerOptions};
use weft_codec::{Incoming, Upgrading};

use super::answer::{Answer, read};
use crate::Target;
use crate::feed::{Feed, Pieces, drive};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const WORDS: &[&str] = &[
    "\0\x01\x01",
    "\x01\x05\x01",
    "\x01\x04\x01",
    "\x03\0\x01\x04",
    "\x04\0\0\x06",
    "\x04\x01\0\0",
    "\x06\0\0\x08",
    "\x07\0\0\x08",
    "\x08\0\0\x04",
    "\x09\x04\x01",
    "\x02\0\x01\x05",
    "\x0d",
    "\0\x03\0\0\0\x01",
    "\0\x04\x7f\x7f\x7f\x7f",
    ":path",
    ":status",
    ":authority",
    "content-length",
    "te",
    "cookie",
    "expect",
    "connection",
    "transfer-encoding",
    "trailers",
];
/// Not a type of frame: the payload goes over as it is.
const RAW: u8 = 13;
/// Output that a connection may have for each byte that it was sent, and for itself.
const AMPLIFICATION: usize = 64;
/// How long an exchange may take that waits for nothing.
const LONGEST: Duration = Duration::from_secs(20);

pub(super) const SERVER: Target =
    Target { name: "http2_server", run: server, seeds: requests, words: WORDS, quick: 20_000 };
pub(super) const CLIENT: Target =
    Target { name: "http2_client", run: client, seeds: responses, words: WORDS, quick: 2_500 };
pub(super) const HPACK: Target =
    Target { name: "hpack", run: hpack, seeds: blocks, words: WORDS, quick: 20_000 };
pub(super) const PAIR: Target = Target {
    name: "http2_pair",
    run: pair,
    seeds: messages,
    words: &["\n\n", "x: ", "cookie: a=b\n", "te: trailers\n", "accept: */*\n", "\n"],
    quick: 1_500,
};

const OPTIONS: ServerOptions = ServerOptions {
    stream_window: 65_535,
    connection_window: 1 << 20,
    streams: 16,
    header_list: 8 << 10,
    connect_protocol: true,
};

type NoPings = Option<Pings<Pin<Box<Sleep>>>>;

/// Frames from their short form.
fn frames(mut short: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let [kind, flags, stream, length, rest @ ..] = short {
        let (payload, rest) = rest.split_at(usize::from(*length).min(rest.len()));
        if kind % 14 != RAW {
            out.extend([0, 0, payload.len() as u8, kind % 14, *flags, 0, 0, 0, *stream]);
        }
        out.extend_from_slice(payload);
        short = rest;
    }
    out
}

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    [&[kind, flags, stream, payload.len() as u8], payload].concat()
}

/// The first byte says what is done with requests, the second how bytes arrive.
fn server(input: &[u8]) {
    let [mode, pieces, short @ ..] = input else { return };
    serve(&[PREFACE, &frames(short)].concat(), *mode, Pieces::Small(*pieces));
}

/// Header blocks, each with its length before it.
fn hpack(input: &[u8]) {
    let mut bytes = PREFACE.to_vec();
    bytes.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    let mut rest = input;
    let mut stream = 1u8;
    while let [length, after @ ..] = rest {
        let (block, after) = after.split_at(usize::from(*length).min(after.len()));
        bytes.extend([0, 0, block.len() as u8, 1, 5, 0, 0, 0, stream]);
        bytes.extend_from_slice(block);
        rest = after;
        stream = stream.wrapping_add(2);
    }
    serve(&bytes, 4, Pieces::Whole);
}

fn serve(bytes: &[u8], mode: u8, pieces: Pieces) {
    let feed = Feed::new(bytes, pieces);
    let written = feed.written();
    let kept: Rc<RefCell<Vec<Upgrading>>> = Rc::default();
    let start = |request: Request<Incoming>, reply: Reply| {
        let kept = Rc::clone(&kept);
        reply.with(async move { answer(request, mode, &kept).await })
    };
    let mut server = Server::new(feed, &OPTIONS, None as NoPings, start);
    // However it ends.
    let _ = drive(|cx| server.poll(cx));
    let size = written.borrow().len();
    let most = AMPLIFICATION * (bytes.len() + 64);
    assert!(mode % 5 == 4 || size <= most, "{size} bytes for {}", bytes.len());
}

async fn answer(
    mut request: Request<Incoming>,
    mode: u8,
    kept: &RefCell<Vec<Upgrading>>,
) -> Response<Answer> {
    let text = Bytes::from_static(b"ok");
    match mode % 5 {
        0 => {
            read(request.into_body()).await;
            Response::new(Answer::Bytes(text))
        }
        1 => Response::new(Answer::Echo(request.into_body())),
        2 => Response::new(Answer::Bytes(text)),
        3 => {
            kept.borrow_mut().extend(request.body_mut().upgrade());
            Response::new(Answer::Bytes(Bytes::new()))
        }
        _ => {
            let (head, body) = request.into_parts();
            let mut response = Response::new(Answer::Echo(body));
            *response.headers_mut() = head.headers;
            response
        }
    }
}

thread_local! {
    static RUNTIME: tokio::runtime::LocalRuntime =
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build_local(tokio::runtime::LocalOptions::default())
            .expect("invariant: it needs nothing");
}

/// Runs on a worker's kind of runtime.
fn local(future: impl Future<Output = ()>) {
    RUNTIME.with(|runtime| {
        runtime.block_on(async { timeout(LONGEST, future).await.expect("nobody will wake it") });
    });
}

fn client(input: &[u8]) {
    let [mode, pieces, short @ ..] = input else { return };
    let feed = Feed::new(&frames(short), Pieces::Small(*pieces));
    let written = feed.written();
    let (mode, most) = (*mode, AMPLIFICATION * (short.len() + 64));
    local(async {
        let (client, mut connection) = Client::new(feed, 65_535, 1 << 20, None as NoPings);
        let methods = [Method::GET, Method::POST, Method::HEAD];
        let exchanges: Vec<_> = methods
            .into_iter()
            .filter_map(|method| {
                let posts = method == Method::POST;
                let body = if posts { vec![b'x'; usize::from(mode) * 16] } else { Vec::new() };
                client.send(request(method, HeaderMap::new(), body)).ok()
            })
            .collect();
        let driving = spawn_local(async move { poll_fn(|cx| connection.poll(cx)).await });
        for exchange in exchanges {
            let Ok(response) = exchange.await else { continue };
            if mode & 1 == 0 {
                read(response.into_body()).await;
            }
        }
        drop(client);
        let _ = driving.await.expect("the connection's task goes on");
    });
    let size = written.borrow().len();
    assert!(size <= most, "{size} bytes, {most} at most");
}

fn request(method: Method, headers: HeaderMap, body: Vec<u8>) -> Request<Answer> {
    let mut request = Request::new(Answer::Bytes(body.into()));
    *request.method_mut() = method;
    *request.uri_mut() = Uri::from_static("http://a.example/path?query");
    *request.headers_mut() = headers;
    request
}

/// Requests as text: lines of headers, then an empty line and a body of the same text. What was
/// sent has to come back.
fn pair(input: &[u8]) {
    let text = String::from_utf8_lossy(input).into_owned();
    local(async move {
        let (near, far) = tokio::io::duplex(1 << 10);
        let start = |request: Request<Incoming>, reply: Reply| {
            reply.with(async move { answer(request, 4, &RefCell::default()).await })
        };
        let mut server = Server::new(far, &OPTIONS, None as NoPings, start);
        let serving = spawn_local(async move { poll_fn(|cx| server.poll(cx)).await });
        let (client, mut connection) = Client::new(near, 65_535, 1 << 20, None as NoPings);
        let driving = spawn_local(async move { poll_fn(|cx| connection.poll(cx)).await });
        let mut asked = false;
        for message in text.split("\n\n").take(12) {
            let headers = headers(message);
            if size(&headers) > 6 << 10 {
                continue;
            }
            asked = true;
            let body = message.as_bytes().to_vec();
            let sent = request(Method::POST, headers.clone(), body.clone());
            let sent = client.send(sent).expect("the connection takes requests");
            let (head, echoed) = sent.await.expect("it is answered").into_parts();
            assert_eq!(head.headers, headers);
            let whole = read(echoed).await;
            assert_eq!((whole.broken, whole.data), (false, body));
        }
        drop(client);
        driving.await.expect("its task goes on").expect("it ends well");
        let served = serving.await.expect("its task goes on");
        // A client that asks nothing may leave before it has introduced itself.
        assert!(served.is_ok() || !asked, "{served:?}");
    });
}

fn headers(message: &str) -> HeaderMap {
    const OTHERS: [&str; 10] = [
        "connection",
        "keep-alive",
        "proxy-connection",
        "transfer-encoding",
        "upgrade",
        "te",
        "host",
        "content-length",
        "cookie",
        "expect",
    ];
    let mut headers = HeaderMap::new();
    for line in message.lines() {
        let Some((name, value)) = line.split_once(": ") else { continue };
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else { continue };
        let Ok(value) = HeaderValue::from_str(value.trim()) else { continue };
        if !OTHERS.contains(&name.as_str()) {
            headers.append(name, value);
        }
    }
    headers
}

fn size(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum()
}

/// `:method GET, :scheme http, :path /, :authority a`
const GET: &[u8] = b"\x82\x86\x84\x41\x01a";
/// `:method POST, ...`
const POST: &[u8] = b"\x83\x86\x84\x41\x01a";

fn requests() -> Vec<Vec<u8>> {
    let settings = frame(4, 0, 0, b"\0\x03\0\0\0\x64\0\x04\0\0\xff\xff");
    let connect = b"\x42\x07CONNECT\x40\x09:protocol\x09websocket\x86\x84\x41\x01a";
    let conversations = [
        vec![settings.clone(), frame(4, 1, 0, b""), frame(1, 5, 1, GET), frame(1, 5, 3, GET)],
        vec![
            frame(1, 4, 1, POST),
            frame(0, 0, 1, b"hello"),
            frame(0, 1, 1, b""),
            frame(3, 0, 1, b"\0\0\0\x08"),
        ],
        vec![
            frame(1, 0, 1, &POST[..3]),
            frame(9, 4, 1, &POST[3..]),
            frame(0, 9, 1, b"\x02hello\0\0"),
        ],
        vec![frame(1, 4, 1, POST), frame(0, 0, 1, b"x"), frame(1, 5, 1, b"\x40\x01t\x01u")],
        vec![
            frame(1, 4, 1, connect),
            frame(0, 0, 1, b"bytes"),
            frame(8, 0, 1, b"\0\0\x10\0"),
            frame(6, 0, 0, b"12345678"),
        ],
        vec![
            frame(1, 0x25, 1, &[b"\0\0\0\0\x10".as_slice(), GET].concat()),
            frame(2, 0, 3, b"\0\0\0\x01\x10"),
            frame(7, 0, 0, b"\0\0\0\x01\0\0\0\0"),
        ],
    ];
    let each = |frames: &Vec<Vec<u8>>| {
        let short = frames.concat();
        (0..5).map(move |mode| [vec![mode, mode * 3], short.clone()].concat())
    };
    conversations.iter().flat_map(each).collect()
}

fn responses() -> Vec<Vec<u8>> {
    let settings = frame(4, 0, 0, b"\0\x03\0\0\0\x64\0\x04\0\0\xff\xff");
    let conversations = [
        vec![
            settings.clone(),
            frame(4, 1, 0, b""),
            frame(1, 4, 1, b"\x88"),
            frame(0, 1, 1, b"ok"),
            frame(1, 5, 3, b"\x89"),
        ],
        vec![
            frame(4, 0, 0, b"\0\x04\0\0\0\0"),
            frame(8, 0, 3, b"\0\0\0\x10"),
            frame(1, 4, 3, b"\x48\x03103"),
            frame(1, 4, 3, b"\x88"),
            frame(0, 0, 3, b"x"),
            frame(1, 5, 3, b"\x40\x01t\x01u"),
        ],
        vec![
            frame(1, 5, 5, b"\x88\x5c\x0212"),
            frame(3, 0, 1, b"\0\0\0\x07"),
            frame(7, 0, 0, b"\0\0\0\x01\0\0\0\0"),
        ],
        vec![frame(4, 0, 0, b"\0\x01\0\0\0\0\0\x05\0\0\x40\0"), frame(6, 0, 0, b"12345678")],
    ];
    let each = |frames: &Vec<Vec<u8>>| {
        let short = frames.concat();
        [0, 1, 200].map(move |mode| [vec![mode, mode], short.clone()].concat())
    };
    conversations.iter().flat_map(each).collect()
}

fn blocks() -> Vec<Vec<u8>> {
    let block = |more: &[u8]| {
        let block = [GET, more].concat();
        [vec![block.len() as u8], block].concat()
    };
    vec![
        [block(b"\x40\x01x\x01y"), block(b"\xbe\xbf"), block(b"\x0f\x2f\x01z")].concat(),
        [block(b"\x10\x06secret\x01s"), block(b"\x7a\x04/url")].concat(),
        block(b"\x40\x84\xf2\xb2\x4a\x84\x88\x25\xb6\x50\xc3\xab\xbc\xf2\xe3"),
        [b"\x01\x20".to_vec(), b"\x03\x3f\xe1\x1f".to_vec(), block(b"")].concat(),
    ]
}

fn messages() -> Vec<Vec<u8>> {
    [
        "x: y\naccept: */*\nx: z\n\nx: y\nuser-agent: me\n\n",
        "a: \nauthorization: secret\n\na:  b\n\n\n\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}
