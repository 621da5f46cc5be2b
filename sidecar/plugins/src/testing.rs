//! What the tests of plugins share: one plugin, one request, what became of them.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::request::Parts as RequestHead;
use http::response::Parts as ResponseHead;
use http::{HeaderMap, Request, Response};
use serde_json::{Value, json};
use weft_filter_api::{
    BoxedBody, CalloutError, CalloutFuture, CalloutOptions, Callouts, ConnectionFacts, Flow,
    HttpFilter, LocalReply, MessageBody, OpeningFuture, Protocol, ReadError, RouteFilterConfig,
    StreamCx, StreamIo,
};

use crate::{Chain, ChainFilter, Consumers};

/// A chain and a request for it.
pub(crate) struct Case {
    chain: RouteFilterConfig,
    consumers: Option<Arc<Consumers>>,
    request: http::request::Builder,
    remote: SocketAddr,
    body: Bytes,
    servers: Rc<Servers>,
}

/// The questions that plugins asked, each with the cluster that it went to.
pub(crate) type Asked = Rc<RefCell<Vec<(String, Request<Bytes>)>>>;

/// Servers that give one answer again and again, or none.
#[derive(Debug, Default)]
struct Servers {
    answer: Option<Response<Bytes>>,
    asked: Asked,
}

impl Callouts for Servers {
    fn send(&self, cluster: &str, question: Request<Bytes>, _: CalloutOptions) -> CalloutFuture {
        self.asked.borrow_mut().push((cluster.to_owned(), question));
        let answer = self.answer.as_ref().map(|answer| {
            let mut copy = Response::new(answer.body().clone());
            *copy.status_mut() = answer.status();
            copy.headers_mut().clone_from(answer.headers());
            copy
        });
        Box::pin(std::future::ready(answer.ok_or(CalloutError::Nowhere)))
    }

    fn open(&self, _: &str, _: Request<BoxedBody>, _: Duration) -> OpeningFuture {
        Box::pin(std::future::ready(Err(CalloutError::Nowhere)))
    }
}

/// What became of a request.
pub(crate) struct Outcome {
    chain: RouteFilterConfig,
    cx: StreamCx,
    head: RequestHead,
    reply: Option<LocalReply>,
}

/// What the client gets.
#[derive(Debug)]
pub(crate) struct Seen {
    head: ResponseHead,
    body: Bytes,
}

/// Why the settings of a plugin are refused.
#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "callers write it down in place")]
pub(crate) fn refused(name: &str, settings: Value) -> String {
    crate::check(name, &settings).expect("a plugin").expect_err("it is refused")
}

impl Case {
    /// A route with one plugin.
    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "callers write it down in place")]
    pub(crate) fn new(name: &str, settings: Value) -> Self {
        Self::chain(json!({"owner": "/apisix/routes/1", "plugins": {name: settings}}))
    }

    /// A route as a proxy is sent it.
    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "callers write it down in place")]
    pub(crate) fn chain(json: Value) -> Self {
        let chain = Chain::compile(&json).expect("a chain");
        Self {
            chain: Arc::new(chain),
            consumers: None,
            request: Request::builder(),
            remote: SocketAddr::from(([192, 0, 2, 1], 40_000)),
            body: Bytes::new(),
            servers: Rc::default(),
        }
    }

    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "callers write it down in place")]
    pub(crate) fn consumers(self, json: Value) -> Self {
        let consumers = Consumers::compile(&json).expect("consumers");
        Self { consumers: Some(Arc::new(consumers)), ..self }
    }

    /// The same chain with another request.
    pub(crate) fn again(&self) -> Self {
        Self {
            chain: Arc::clone(&self.chain),
            consumers: self.consumers.clone(),
            request: Request::builder(),
            remote: self.remote,
            body: Bytes::new(),
            servers: Rc::default(),
        }
    }

    pub(crate) fn from(self, remote: [u8; 4]) -> Self {
        Self { remote: SocketAddr::from((remote, 40_000)), ..self }
    }

    pub(crate) fn get(self, uri: &str) -> Self {
        self.method("GET", uri)
    }

    pub(crate) fn method(self, method: &str, uri: &str) -> Self {
        let request = Request::builder().method(method).uri(uri).header("host", "shop:80");
        Self { request, ..self }
    }

    pub(crate) fn body(self, body: &'static str) -> Self {
        Self { body: Bytes::from_static(body.as_bytes()), ..self }
    }

    /// What every server answers.
    pub(crate) fn answered(self, answer: Response<Bytes>) -> Self {
        let servers = Servers { answer: Some(answer), asked: Rc::default() };
        Self { servers: Rc::new(servers), ..self }
    }

    /// What servers will have been asked.
    pub(crate) fn asked(&self) -> Asked {
        Rc::clone(&self.servers.asked)
    }

    pub(crate) fn header(self, name: &str, value: &str) -> Self {
        Self { request: self.request.header(name, value), ..self }
    }

    /// Sends the request; it must not wait.
    #[track_caller]
    pub(crate) fn run(self) -> Outcome {
        let (mut outcome, chain) = self.begin();
        let (cx, head) = (&mut outcome.cx, &mut outcome.head);
        let reply = match PLAIN.request(cx, head, Some(&chain)) {
            Flow::Continue => None,
            Flow::Reply(reply) => Some(reply),
            Flow::Await(_) => panic!("it waits"),
        };
        Outcome { reply, ..outcome }
    }

    /// Sends the request and waits as long as it does.
    pub(crate) async fn run_waiting(self) -> Outcome {
        let (mut outcome, chain) = self.begin();
        let (cx, head) = (&mut outcome.cx, &mut outcome.head);
        let reply = match PLAIN.request(cx, head, Some(&chain)) {
            Flow::Continue => None,
            Flow::Reply(reply) => Some(reply),
            Flow::Await(waiting) => waiting.await,
        };
        Outcome { reply, ..outcome }
    }

    fn begin(self) -> (Outcome, RouteFilterConfig) {
        let connection = ConnectionFacts {
            id: 1,
            remote: self.remote,
            local: SocketAddr::from(([192, 0, 2, 2], 9080)),
            restored: false,
            accepted: SystemTime::UNIX_EPOCH,
            application_protocols: Vec::new(),
            server_name: None,
            tls: None,
            annotations: None,
            tlvs: None,
            keep_source: None,
            kept: Vec::new(),
        };
        let mut cx = StreamCx::new(Arc::new(connection), Protocol::Http11);
        if let Some(consumers) = self.consumers {
            cx.state.insert(consumers);
        }
        *cx.io() = StreamIo::new(MessageBody::full(self.body), self.servers);
        let head = self.request.body(()).expect("a request").into_parts().0;
        let chain = Arc::clone(&self.chain);
        (Outcome { chain: self.chain, cx, head, reply: None }, chain)
    }
}

impl Outcome {
    pub(crate) fn passed(&self) -> bool {
        self.reply.is_none()
    }

    #[track_caller]
    pub(crate) fn passes(&self) {
        assert!(self.passed(), "{:?}", self.reply);
    }

    /// A header of the request as the upstream sees it.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        text(&self.head.headers, name)
    }

    pub(crate) fn uri(&self) -> String {
        self.head.uri.to_string()
    }

    /// The request's body as the upstream sees it.
    pub(crate) fn request_body(mut self) -> String {
        let body = self.cx.io().request.whole().expect("it is whole");
        String::from_utf8(body.to_vec()).expect("text")
    }

    /// Reads the request's body as the upstream does.
    pub(crate) async fn read_request_body(&mut self) -> Result<Bytes, ReadError> {
        self.cx.io().request.read(usize::MAX).await
    }

    /// What becomes of an upstream's response with a body.
    pub(crate) async fn respond_body(
        &mut self,
        status: u16,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Seen {
        let mut head = response(status, headers);
        self.cx.io().response = MessageBody::full(Bytes::copy_from_slice(body.as_bytes()));
        if let Flow::Await(waiting) = IO.response(&mut self.cx, &mut head, Some(&self.chain)) {
            waiting.await;
        }
        let body = self.cx.io().response.read(usize::MAX).await.expect("it is read");
        Seen { head, body }
    }

    pub(crate) fn cx(&self) -> &StreamCx {
        &self.cx
    }

    /// The request went upstream.
    pub(crate) fn reach_upstream(&mut self) {
        self.cx.upstream_host = Some(SocketAddr::from(([192, 0, 2, 3], 80)));
    }

    /// The reply that a plugin made, as the client gets it.
    #[track_caller]
    pub(crate) fn replies(mut self, status: u16) -> Seen {
        let reply = self.reply.take().expect("a reply");
        assert_eq!(reply.status, status, "{reply:?}");
        let (mut head, ()) = Response::new(()).into_parts();
        (head.status, head.headers) = (reply.status, reply.headers);
        let body = reply.body;
        PLAIN.response(&mut self.cx, &mut head, Some(&self.chain));
        Seen { head, body }
    }

    /// What becomes of an upstream's response.
    pub(crate) fn respond(&mut self, status: u16) -> Seen {
        self.respond_with(status, &[])
    }

    pub(crate) fn respond_with(&mut self, status: u16, headers: &[(&str, &str)]) -> Seen {
        let mut head = response(status, headers);
        PLAIN.response(&mut self.cx, &mut head, Some(&self.chain));
        Seen { head, body: Bytes::new() }
    }
}

impl Seen {
    pub(crate) fn status(&self) -> u16 {
        self.head.status.as_u16()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        text(&self.head.headers, name)
    }

    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let values = self.head.headers.get_all(name).iter();
        values.filter_map(|value| value.to_str().ok()).collect()
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.body
    }
}

/// The filter for chains that look into bodies.
const PLAIN: ChainFilter = ChainFilter { uses_io: false };
const IO: ChainFilter = ChainFilter { uses_io: true };

fn response(status: u16, headers: &[(&str, &str)]) -> ResponseHead {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(()).expect("a response").into_parts().0
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
