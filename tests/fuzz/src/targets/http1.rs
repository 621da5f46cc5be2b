//! HTTP/1 at both ends.
//!
//! The first byte says what is done with messages, the second how their bytes arrive.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Uri};
use http_body::Body;
use tokio::io::AsyncReadExt;
use weft_codec::http1::{ClientConnection, Refusal, ServerConnection, ServerOptions, Spelling};
use weft_codec::{Incoming, Upgrading};

use super::answer::{Answer, Whole, read};
use crate::Target;
use crate::feed::{Feed, Pieces, drive};

const WORDS: &[&str] = &[
    "\r\n",
    "\r\n\r\n",
    "\n",
    "\r",
    "\0",
    " HTTP/1.1\r\n",
    " HTTP/1.0\r\n",
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.1 100 Continue\r\n\r\n",
    "HTTP/1.1 101 x\r\n",
    "HTTP/1.1 204 x\r\n",
    "GET / HTTP/1.1\r\n",
    "CONNECT a:1 HTTP/1.1\r\n",
    "OPTIONS * HTTP/1.1\r\n",
    "POST ",
    "HEAD ",
    "http://a/",
    "host: a\r\n",
    "content-length: ",
    "transfer-encoding: chunked\r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "connection: close\r\n",
    "connection: keep-alive, upgrade\r\n",
    "upgrade: websocket\r\n",
    "expect: 100-continue\r\n",
    "te: trailers\r\n",
    "trailer: x\r\n",
    "0\r\n\r\n",
    "5;a=b\r\nhello\r\n",
    "ffffffffffffffff\r\n",
    " : ",
    "\t",
    "#",
    "%00",
    "\x7f",
    "keep-alive: 1\r\n",
    "proxy-connection: close\r\n",
];

pub(super) const SERVER: Target =
    Target { name: "http1_server", run: server, seeds: requests, words: WORDS, quick: 20_000 };
pub(super) const CLIENT: Target =
    Target { name: "http1_client", run: client, seeds: responses, words: WORDS, quick: 20_000 };

const OPTIONS: ServerOptions =
    ServerOptions { max_head_bytes: 4 << 10, max_headers: 32, spelling: Spelling::Lower };
/// How many bytes an answer to one of a request may have, at most: heads of ours for tiny requests.
const AMPLIFICATION: usize = 16;

/// What a server has seen of a connection.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    requests: Vec<(String, Whole)>,
    /// Whether it ended between two requests. A head or a body that is wrong and cut off may be
    /// either: nobody looks at it again for every piece.
    ended_well: bool,
}

fn server(input: &[u8]) {
    let [mode, pieces, bytes @ ..] = input else { return };
    let seen = serve(bytes, *mode, Pieces::Small(*pieces));
    if mode % 4 == 0 {
        assert_eq!(seen, serve(bytes, *mode, Pieces::Whole), "the pieces made a difference");
    }
}

fn serve(bytes: &[u8], mode: u8, pieces: Pieces) -> Seen {
    let seen = Rc::new(RefCell::new(Seen::default()));
    let refused = Cell::new(false);
    let upgrading: Rc<RefCell<Option<Upgrading>>> = Rc::default();
    let call = |request: Request<Incoming>| {
        let seen = Rc::clone(&seen);
        let upgrading = Rc::clone(&upgrading);
        async move { answer(request, mode, &seen, &upgrading).await }
    };
    let refuse = |refusal: Refusal| {
        refused.set(true);
        let body = Answer::Bytes(Bytes::from_static(refusal.text().as_bytes()));
        let mut response = Response::new(body);
        *response.status_mut() = refusal.status();
        response
    };
    let spelling = if mode & 0x80 == 0 { Spelling::Lower } else { Spelling::Preserved };
    let feed = Feed::new(bytes, pieces);
    let written = feed.written();
    let options = ServerOptions { spelling, ..OPTIONS };
    let mut connection = ServerConnection::new(feed, &[], (call, refuse), options);
    let end = drive(|cx| connection.poll(cx));
    if let Some(upgrading) = upgrading.borrow_mut().take() {
        let mut tunnel = pin!(async {
            let mut rest = Vec::new();
            if let Ok(mut stream) = upgrading.await {
                stream.read_to_end(&mut rest).await.expect("invariant: memory fails no read");
            }
            assert!(rest.len() <= bytes.len());
        });
        drive(|cx| tunnel.as_mut().poll(cx));
    }
    drop(connection);
    let size = written.borrow().len();
    assert!(size <= AMPLIFICATION * (bytes.len() + 32), "{size} bytes for {}", bytes.len());
    let mut seen = seen.take();
    seen.ended_well = end.is_ok() && !refused.get();
    seen
}

async fn answer(
    mut request: Request<Incoming>,
    mode: u8,
    seen: &RefCell<Seen>,
    upgrading: &RefCell<Option<Upgrading>>,
) -> Response<Answer> {
    let text = b"ok".as_slice();
    match mode % 4 {
        0 => {
            let (head, body) = request.into_parts();
            let whole = read(body).await;
            let mut headers: Vec<_> =
                head.headers.iter().map(|(name, value)| format!("{name}: {value:?}")).collect();
            headers.sort();
            let head = format!("{} {} {:?} {headers:?}", head.method, head.uri, head.version);
            seen.borrow_mut().requests.push((head, whole));
            Response::new(Answer::Bytes(text.into()))
        }
        1 => Response::new(Answer::Echo(request.into_body())),
        2 => Response::new(Answer::Bytes(text.into())),
        _ => {
            let promise = request.body_mut().upgrade();
            let mut response = Response::new(Answer::Bytes(Bytes::new()));
            if promise.is_some() {
                let connect = request.method() == Method::CONNECT;
                *response.status_mut() =
                    if connect { StatusCode::OK } else { StatusCode::SWITCHING_PROTOCOLS };
                *upgrading.borrow_mut() = promise;
            }
            response
        }
    }
}

fn client(input: &[u8]) {
    let [mode, pieces, bytes @ ..] = input else { return };
    let seen = exchange(bytes, *mode, Pieces::Small(*pieces));
    assert_eq!(seen, exchange(bytes, *mode, Pieces::Whole), "the pieces made a difference");
}

/// Makes requests as long as the connection allows; what the first response was.
fn exchange(bytes: &[u8], mode: u8, pieces: Pieces) -> String {
    let spelling = if mode & 0x80 == 0 { Spelling::Lower } else { Spelling::Preserved };
    let mut connection = ClientConnection::new(Feed::new(bytes, pieces), spelling);
    let mut first = None;
    for _ in 0..8 {
        connection.start(request(mode));
        let seen = match drive(|cx| connection.poll_response(cx)) {
            Err(_) => "broken".to_owned(),
            Ok(head) => {
                let whole = rest(&mut connection);
                assert!(whole.data.len() <= bytes.len());
                format!("{} {:?} {:?} {whole:?}", head.status, head.version, head.headers)
            }
        };
        first.get_or_insert(seen);
        if !connection.is_usable() {
            break;
        }
    }
    first.unwrap_or_default()
}

fn rest(connection: &mut ClientConnection<Feed, Answer>) -> Whole {
    struct Rest<'a>(&'a mut ClientConnection<Feed, Answer>);

    impl Body for Rest<'_> {
        type Data = Bytes;
        type Error = weft_codec::CodecError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
            self.0.poll_frame(cx)
        }
    }
    let mut reading = pin!(read(Rest(connection)));
    drive(|cx| reading.as_mut().poll(cx))
}

fn request(mode: u8) -> Request<Answer> {
    let (method, body) = match mode % 5 {
        0 => (Method::GET, ""),
        1 => (Method::HEAD, ""),
        2 => (Method::POST, "a body"),
        3 => (Method::CONNECT, ""),
        _ => (Method::OPTIONS, ""),
    };
    let uri = if method == Method::CONNECT { "a.example:80" } else { "/path?query" };
    let mut request = Request::new(Answer::Bytes(Bytes::from_static(body.as_bytes())));
    *request.method_mut() = method;
    *request.uri_mut() = Uri::from_static(uri);
    request
}

fn requests() -> Vec<Vec<u8>> {
    let texts = [
        "GET /a?b=c HTTP/1.1\r\nhost: a.example\r\nx: y\r\n\r\nGET / HTTP/1.0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhelloGET / HTTP/1.1\r\nhost: b\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nt: u\r\n\r\n",
        "PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
        "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n\x01\x02",
        "CONNECT a.example:443 HTTP/1.1\r\nhost: a.example:443\r\n\r\nbytes",
        "OPTIONS * HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
        "GET http://a.example/x HTTP/1.1\r\nhost: b\r\naccept:\t x \t\r\n\r\n",
    ];
    in_modes(&texts, 4)
}

fn responses() -> Vec<Vec<u8>> {
    let texts = [
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nt: u\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 x\r\nlink: y\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\n\r\nuntil the end",
        "HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nbytes",
        "HTTP/1.1 304 Not Modified\r\ncontent-length: 100\r\n\r\n",
    ];
    in_modes(&texts, 5)
}

fn in_modes(texts: &[&str], modes: u8) -> Vec<Vec<u8>> {
    let each = |text: &&str| {
        let text = text.as_bytes().to_vec();
        (0..modes).map(move |mode| [vec![mode, mode.wrapping_mul(37)], text.clone()].concat())
    };
    texts.iter().flat_map(each).collect()
}
