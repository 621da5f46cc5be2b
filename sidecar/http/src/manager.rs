//! The way of one request through the connection manager.

use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, DATE, Entry, SERVER};
use http::request::Parts as RequestHead;
use http::response::Parts as ResponseHead;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use weft_codec::Incoming;
use weft_codec::http1::Refusal;
use weft_filter_api::{BoxedBody, LocalReply, Protocol, StreamCx};
use weft_model::{HeaderMutations, Route, RouteAction, Routes, ServerHeader, VirtualHost};
use weft_route::{Outcome, RequestView};
use weft_telemetry::{ResponseFlag, clock};
use weft_upstream::UpstreamBody;

use crate::body::ReplyBody;
use crate::connection::{HttpConnection, SeenRoutes};
use crate::filters::{self, Asked};
use crate::inbound::{self, Kind};
use crate::mutate;
use crate::stream::{End, Stream};
use crate::upgrade::{self, Far, Near};
use crate::{date, demand, forward, local_reply, names, redirect, reply, trace};

/// What is sent to the client; large, and made where it stays until it is sent.
pub(crate) struct Answer {
    pub(crate) head: ResponseHead,
    pub(crate) body: AnswerBody,
}

impl Answer {
    /// Whether what follows is no longer HTTP.
    fn tunnels(&self) -> bool {
        matches!(self.body, AnswerBody::Tunnel(_))
    }
}

/// Where the body of an answer comes from.
pub(crate) enum AnswerBody {
    /// From here.
    Local(Bytes),
    /// From the upstream.
    Upstream(UpstreamBody),
    /// From a filter.
    Filtered(BoxedBody),
    /// Bytes go both ways from here on.
    Tunnel(Box<Far>),
}

/// A route that was found, with everything that its request depends on.
#[derive(Clone, Copy)]
pub(crate) struct Plan<'a> {
    pub(crate) connection: &'a Rc<HttpConnection>,
    pub(crate) routes: &'a Routes,
    pub(crate) host: &'a VirtualHost,
    pub(crate) route: &'a Arc<Route>,
    pub(crate) kind: Kind,
    /// Decides on fractions and weights.
    pub(crate) random: u64,
}

/// What the route table says.
#[derive(Clone, Copy)]
enum Choice<'a> {
    Route(Plan<'a>),
    /// The virtual host wants https.
    Https,
    /// The virtual host has no route for the request, or there are no routes.
    Nothing,
    /// There is no virtual host for the request.
    NoHost,
}

/// Handles one request; what is returned carries the stream to its end.
///
/// The request moves to the heap before anything waits, so that the future is small.
pub(crate) fn handle(
    connection: &Rc<HttpConnection>,
    request: Request<Incoming>,
) -> impl Future<Output = Response<ReplyBody>> + use<> {
    answer(Stream::begin(connection, request))
}

async fn answer(mut stream: Box<Stream>) -> Response<ReplyBody> {
    let is_head = stream.head.method == Method::HEAD;
    let streams = stream.cx.protocol == Protocol::Http2;
    let mut near = stream.incoming.as_mut().and_then(Incoming::upgrade).map(Near::Connection);
    let mut request_id = None;
    let mut answer = match inbound::accept(&mut stream) {
        Ok(kind) => {
            if stream.connection.manager.request_id_in_response {
                request_id = stream.head.headers.get(names::X_REQUEST_ID).cloned();
            }
            if streams && kind.tunnels() {
                near = stream.incoming.take().map(Near::Stream);
            }
            let answer = run(&mut stream, kind).await;
            if !streams && kind.tunnels() && !answer.tunnels() {
                // What follows may already be of the other protocol.
                stream.connection.end();
            }
            answer
        }
        Err(refusal) => {
            stream.log_request();
            let stays = refusal.status.is_redirection() || refusal.details == inbound::NOT_A_PATH;
            if !streams && !stays {
                stream.connection.end();
            }
            Box::pin(refused(&mut stream, *refusal)).await
        }
    };
    let switching = answer.tunnels();
    finish_head(&stream, &mut answer.head, switching);
    if let Some((span, _)) = stream.span() {
        span.response(&mut answer.head.headers);
    }
    if let Some(request_id) = request_id {
        answer.head.headers.insert(names::X_REQUEST_ID, request_id);
    }
    stream.log_response(answer.head.status.as_u16(), &answer.head.headers);
    if streams && switching {
        upgrade::as_stream(&mut answer.head);
    }
    let Answer { head, body } = *answer;
    let body = match body {
        AnswerBody::Local(_) if is_head => ReplyBody::full(Bytes::new(), stream),
        AnswerBody::Local(bytes) => ReplyBody::full(bytes, stream),
        AnswerBody::Tunnel(far) => upgrade::start(near, far, stream),
        AnswerBody::Upstream(body) => ReplyBody::upstream(body, stream),
        AnswerBody::Filtered(body) => ReplyBody::filtered(body, stream),
    };
    Response::from_parts(head, body)
}

/// The answer to a request that is refused before the filters: they see it all the same.
async fn refused(stream: &mut Stream, refusal: LocalReply) -> Box<Answer> {
    let grpc = inbound::is_grpc(&stream.head.headers);
    let mut answer = local(stream, refusal, grpc);
    let connection = Rc::clone(&stream.connection);
    if !connection.manager.filters.is_empty() {
        let asked = Asked { head: stream.head.method == Method::HEAD, grpc };
        let seen = connection.routes();
        let choice = choose(&connection, seen.as_deref(), stream, Kind::default(), 0);
        let entries = connection.manager.filters.on(choice.route());
        Box::pin(filters::up(entries, stream, &mut answer, choice.route(), asked)).await;
    }
    answer
}

/// Answers what is no request; the connection ends with the answer.
pub(crate) fn refuse(connection: &Rc<HttpConnection>, refusal: Refusal) -> Response<ReplyBody> {
    let mut stream = Stream::begin(connection, Request::new(Incoming::Empty));
    if refusal == Refusal::Late {
        connection.manager.stats.rq_header_timeout.inc();
    }
    if !matches!(refusal, Refusal::Late | Refusal::Fragment) {
        connection.manager.stats.cx_protocol_error.inc();
        stream.cx.flags.set(ResponseFlag::DownstreamProtocolError);
    }
    stream.cx.details = refusal.details().into();
    let mut reply = LocalReply::text(refusal.status(), refusal.text(), refusal.details());
    if let Some(config) = &connection.manager.local_replies {
        local_reply::apply(config, &stream, &mut reply);
    }
    let (mut head, body) = reply::head_and_body(reply, false);
    finish_head(&stream, &mut head, false);
    stream.log_response(head.status.as_u16(), &head.headers);
    Response::from_parts(head, ReplyBody::full(body, stream))
}

/// Chooses the route, runs the filters, does what the route says, runs the filters backwards.
async fn run(stream: &mut Stream, kind: Kind) -> Box<Answer> {
    let connection = Rc::clone(&stream.connection);
    let mut seen = connection.routes();
    let random = fastrand::u64(..);
    let mut choice = choose(&connection, seen.as_deref(), stream, kind, random);
    let mut refusal = None;
    if let (Choice::NoHost, Some(filter)) = (choice, &connection.manager.on_demand)
        && let Some(routes) = &seen
    {
        refusal = Box::pin(demand::virtual_host(filter, routes, stream)).await;
        seen = connection.routes();
        choice = choose(&connection, seen.as_deref(), stream, kind, random);
    }
    if let Choice::Route(Plan { host: VirtualHost { used: Some(used), .. }, .. }) = choice {
        used.mark();
    }
    stream.cx.route_name = choice.name();
    if connection.manager.tracing.is_some() {
        trace::begin(stream, choice.shared_route());
    }
    let all = &connection.manager.filters;
    let entries = all.on(choice.route());
    let asked = Asked { head: stream.head.method == Method::HEAD, grpc: kind.grpc };
    if all.see_ends() {
        stream.keep_route(choice.shared_route());
        if kind.grpc && all.count_messages() {
            stream.count_messages();
        }
    }
    if !entries.is_empty() && refusal.is_none() {
        refusal = filters::down(entries, stream, choice.route()).await;
        if refusal.is_none() && std::mem::take(&mut stream.cx.route_changed) {
            let kind = Kind { https: inbound::is_https(&stream.head.headers), ..kind };
            choice = choose(&connection, seen.as_deref(), stream, kind, random);
            stream.cx.route_name = choice.name();
        }
    }
    let refusal = refusal.or_else(|| choice.refusal(stream));
    let mut answer = match (refusal, &choice) {
        (None, Choice::Route(plan)) => act(plan, stream).await,
        (refusal, _) => {
            stream.log_request();
            let reply = refusal.unwrap_or_else(|| not_found(stream));
            local(stream, reply, kind.grpc)
        }
    };
    if stream.end == End::Again {
        stream.end = End::Open;
        drop(answer);
        return Box::pin(run(stream, kind)).await;
    }
    let entries = all.on(choice.route());
    if !entries.is_empty() {
        filters::up(entries, stream, &mut answer, choice.route(), asked).await;
    }
    answer
}

fn choose<'a>(
    connection: &'a Rc<HttpConnection>,
    routes: Option<&'a SeenRoutes>,
    stream: &Stream,
    kind: Kind,
    random: u64,
) -> Choice<'a> {
    let Some(routes) = routes else { return Choice::Nothing };
    let https = kind.https;
    let found = routes.table.find(&view(&stream.head, &stream.cx, https, random));
    if let Outcome::NoRoute(host) | Outcome::Route(host, _) = found
        && host.require_tls.is_some()
        && !https
    {
        return Choice::Https;
    }
    match found {
        Outcome::NoHost => Choice::NoHost,
        Outcome::NoRoute(_) => Choice::Nothing,
        Outcome::Route(host, route) => {
            Choice::Route(Plan { connection, routes, host, route, kind, random })
        }
    }
}

/// A request as the route table sees it.
pub(crate) fn view<'a>(
    head: &'a RequestHead,
    cx: &'a StreamCx,
    https: bool,
    random: u64,
) -> RequestView<'a> {
    RequestView {
        method: &head.method,
        scheme: if https { "https" } else { "http" },
        authority: inbound::authority(head),
        path: head.uri.path(),
        query: head.uri.query(),
        headers: &head.headers,
        random,
        around: Some(cx),
    }
}

impl<'a> Choice<'a> {
    fn route(&self) -> Option<&'a Route> {
        self.shared_route().map(|route| &**route)
    }

    fn shared_route(&self) -> Option<&'a Arc<Route>> {
        match self {
            Self::Route(plan) => Some(plan.route),
            Self::Https | Self::Nothing | Self::NoHost => None,
        }
    }

    fn name(&self) -> Option<Arc<str>> {
        self.route()?.name.clone()
    }

    /// The reply for a request that has no route.
    fn refusal(&self, stream: &mut Stream) -> Option<LocalReply> {
        match self {
            Self::Route(_) => None,
            Self::Https => Some(redirect::to_https(&stream.head)),
            Self::Nothing | Self::NoHost => {
                stream.connection.manager.stats.no_route.inc();
                Some(not_found(stream))
            }
        }
    }
}

fn not_found(stream: &mut Stream) -> LocalReply {
    stream.cx.flags.set(ResponseFlag::NoRouteFound);
    LocalReply::text(StatusCode::NOT_FOUND, "", "route_not_found")
}

/// Does what the route says.
async fn act(plan: &Plan<'_>, stream: &mut Stream) -> Box<Answer> {
    match &plan.route.action {
        RouteAction::Forward(action) => forward::forward(plan, action, stream).await,
        RouteAction::Redirect(action) => {
            let reply = redirect::redirect(action, &stream.head);
            direct(plan, stream, reply)
        }
        RouteAction::Direct(action) => {
            let reply = LocalReply::text(action.status, action.body.clone(), "direct_response");
            direct(plan, stream, reply)
        }
    }
}

/// A reply that the route asks for; the route's header changes apply to it.
fn direct(plan: &Plan<'_>, stream: &mut Stream, reply: LocalReply) -> Box<Answer> {
    stream.log_request();
    let mut answer = local(stream, reply, plan.kind.grpc);
    plan.change_local(stream, &mut answer.head, Some(&stream.head), None);
    answer
}

/// A reply made here.
pub(crate) fn local(stream: &mut Stream, mut reply: LocalReply, grpc: bool) -> Box<Answer> {
    stream.cx.details = reply.details.clone();
    if let Some(config) = &stream.connection.manager.local_replies {
        local_reply::apply(config, stream, &mut reply);
    }
    let (head, body) = reply::head_and_body(reply, grpc);
    Box::new(Answer { head, body: AnswerBody::Local(body) })
}

impl Plan<'_> {
    /// Applies the header changes for responses of route, virtual host and table; `cluster`: those
    /// of the weighted cluster.
    pub(crate) fn change_response(
        &self,
        stream: &Stream,
        head: &mut ResponseHead,
        request: Option<&RequestHead>,
        cluster: Option<&HeaderMutations>,
    ) {
        for changes in self.in_order(cluster, self.response_changes()) {
            if !changes.is_empty() {
                mutate::response(changes, head, &stream.cx, request);
            }
        }
    }

    /// The same for a reply made here: its content type is only what we say if nobody else does.
    pub(crate) fn change_local(
        &self,
        stream: &Stream,
        head: &mut ResponseHead,
        request: Option<&RequestHead>,
        cluster: Option<&HeaderMutations>,
    ) {
        let ours = head.headers.remove(CONTENT_TYPE);
        self.change_response(stream, head, request, cluster);
        if let Some(ours) = ours {
            head.headers.entry(CONTENT_TYPE).or_insert(ours);
        }
    }

    /// Whether changing the response needs the request's headers.
    pub(crate) fn response_reads_request(&self, cluster: Option<&HeaderMutations>) -> bool {
        let mut all = self.response_changes().into_iter().chain(cluster);
        all.any(mutate::reads_request)
    }

    /// Changes of route, virtual host and table in the order in which they apply.
    pub(crate) fn in_order<'m>(
        &self,
        cluster: Option<&'m HeaderMutations>,
        [route, host, table]: [&'m HeaderMutations; 3],
    ) -> impl Iterator<Item = &'m HeaderMutations> {
        let order = if self.routes.most_specific_wins {
            [cluster, Some(table), Some(host), Some(route)]
        } else {
            [cluster, Some(route), Some(host), Some(table)]
        };
        order.into_iter().flatten()
    }

    fn response_changes(&self) -> [&HeaderMutations; 3] {
        [&self.route.response_headers, &self.host.response_headers, &self.routes.response_headers]
    }
}

/// The last changes to a response's head, whoever made it.
fn finish_head(stream: &Stream, head: &mut ResponseHead, switching: bool) {
    let connection = &*stream.connection;
    let manager = &*connection.manager;
    // The codec says what the client speaks, not what the upstream spoke.
    head.version = Version::HTTP_11;
    inbound::strip_response(&mut head.headers, switching);
    match manager.server_header {
        ServerHeader::Overwrite => {
            head.headers.insert(SERVER, manager.server_name.clone());
        }
        ServerHeader::AppendIfAbsent => {
            head.headers.entry(SERVER).or_insert_with(|| manager.server_name.clone());
        }
        ServerHeader::PassThrough => {}
    }
    if let Some(via) = &manager.via {
        inbound::append_via(&mut head.headers, via);
    }
    if let Entry::Vacant(date) = head.headers.entry(DATE) {
        date.insert(date::value(clock::now()));
    }
    // In HTTP/2 GOAWAY says it.
    if connection.is_ending() && stream.cx.protocol != Protocol::Http2 && !switching {
        head.headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The size of what an asynchronous function keeps while it waits.
    fn size_of_future<A, F>(_: impl Fn(A) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_request_in_flight_stays_small() {
        let handling = size_of_future(answer);
        assert!(handling <= 2400, "handling a request keeps {handling} bytes");
        let stream = size_of::<Stream>();
        assert!(stream <= 768, "a stream keeps {stream} bytes");
        let serving = size_of_future(|(established, worker)| crate::serve(established, worker));
        assert!(serving <= 1200, "serving a connection keeps {serving} bytes");
    }
}
