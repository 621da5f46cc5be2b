//! The filters that run chains: APISIX's order of phases.

use std::sync::Arc;

use http::request::Parts as RequestHead;
use http::response::Parts as ResponseHead;
use tokio::time::Instant;
use weft_filter_api::{Flow, HttpFilter, LocalReply, RouteFilterConfig, StreamCx};

use crate::chain::{self, Chain};
use crate::consumers::Consumers;
use crate::exchange::{Answer, Ended, Exchange};
use crate::link::Link;
use crate::plugin::{Phase, Step};
use crate::run::Run;

/// Runs the [`Chain`] of the route.
#[derive(Debug, Default)]
pub struct ChainFilter {
    /// Whether its chains look into bodies: they stand under another filter's name, so that those
    /// that don't need not pay for it.
    pub uses_io: bool,
}

/// Tells the [`ChainFilter`] after it of the [`Consumers`] that the route knows.
#[derive(Debug)]
pub struct ConsumersFilter;

/// The parts of a request's way, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    GlobalRewrite,
    Rewrite,
    /// Consumers add their plugins.
    Merge,
    GlobalAccess,
    Access,
    Done,
}

/// How far a request has come.
#[derive(Debug)]
struct Progress {
    stage: Stage,
    next: usize,
    /// Links that the consumer brought and whose first phase is still to come.
    late: Vec<u64>,
}

/// Why the way is interrupted.
enum Stop {
    Reply(LocalReply),
    Wait(Arc<Link>, Phase),
}

impl HttpFilter for ConsumersFilter {
    fn request<'a>(
        &'a self,
        cx: &'a mut StreamCx,
        _: &'a mut RequestHead,
        route: Option<&'a RouteFilterConfig>,
    ) -> Flow<'a> {
        let consumers = route.map(|route| Arc::clone(route).downcast::<Consumers>());
        if let Some(Ok(consumers)) = consumers {
            cx.state.insert(consumers);
        }
        Flow::Continue
    }
}

impl HttpFilter for ChainFilter {
    fn sees_responses(&self) -> bool {
        true
    }

    fn uses_io(&self) -> bool {
        self.uses_io
    }

    fn request<'a>(
        &'a self,
        cx: &'a mut StreamCx,
        head: &'a mut RequestHead,
        route: Option<&'a RouteFilterConfig>,
    ) -> Flow<'a> {
        let Some(chain) = route.and_then(|route| route.downcast_ref::<Chain>()) else {
            return Flow::Continue;
        };
        let mut run = Run::default();
        if chain.keeps_request {
            run.request = Some(Arc::new(copy_of(head)));
        }
        let mut progress = Progress { stage: Stage::GlobalRewrite, next: 0, late: Vec::new() };
        match progress.advance(chain, cx, head, &mut run) {
            None => {
                cx.state.insert(run);
                Flow::Continue
            }
            Some(Stop::Reply(reply)) => {
                cx.state.insert(run);
                Flow::Reply(reply)
            }
            Some(Stop::Wait(link, phase)) => Flow::Await(Box::pin(async move {
                let mut waiting = (link, phase);
                let reply = loop {
                    let (link, phase) = &waiting;
                    let mut exchange = exchange(chain, cx, head, &mut run, link.id);
                    let step = link.plugin.wait(*phase, &mut exchange).await;
                    if let Step::Reply(reply) = step {
                        break Some(reply.into_local(link.name, link.error_response.as_ref()));
                    }
                    match progress.advance(chain, cx, head, &mut run) {
                        None => break None,
                        Some(Stop::Reply(reply)) => break Some(reply),
                        Some(Stop::Wait(link, phase)) => waiting = (link, phase),
                    }
                };
                cx.state.insert(run);
                reply
            })),
        }
    }

    fn response<'a>(
        &'a self,
        cx: &'a mut StreamCx,
        head: &'a mut ResponseHead,
        route: Option<&'a RouteFilterConfig>,
    ) -> Flow<'a> {
        let chain = route.and_then(|route| route.downcast_ref::<Chain>());
        let Some((chain, mut run)) = chain.zip(cx.state.remove::<Run>()) else {
            return Flow::Continue;
        };
        for (name, value) in run.response_headers.drain(..) {
            head.headers.insert(name, value);
        }
        let own = run.merged.clone().unwrap_or_else(|| Arc::clone(&chain.own));
        for link in on_the_way_back(&chain.global, &own) {
            if is_skipped(&run, link) {
                continue;
            }
            let place = &chain.place;
            let mut answer = Answer { cx, run: &mut run, place, link: link.id };
            link.plugin.header_filter(&mut answer, head);
        }
        if chain.logs && run.request.is_some() {
            let links = chain.global.iter().chain(own.iter()).filter(|link| link.plugin.logs());
            let links: Vec<_> =
                links.filter(|link| !is_skipped(&run, link)).map(Arc::clone).collect();
            cx.state.insert(Arc::new(Ending { ended: ended(chain, cx, &run, head), links }));
        }
        if !self.uses_io {
            cx.state.insert(run);
            return Flow::Continue;
        }
        Flow::Await(Box::pin(async move {
            for link in on_the_way_back(&chain.global, &own) {
                if is_skipped(&run, link) {
                    continue;
                }
                let place = &chain.place;
                let mut answer = Answer { cx, run: &mut run, place, link: link.id };
                if let Some(changing) = link.plugin.body(&mut answer) {
                    changing.await;
                }
            }
            cx.state.insert(run);
            None
        }))
    }
}

/// The plugins in the order in which they see responses.
fn on_the_way_back<'a>(
    global: &'a [Arc<Link>],
    own: &'a [Arc<Link>],
) -> impl Iterator<Item = &'a Arc<Link>> {
    let all = || global.iter().chain(own);
    let early = all().filter(|link| !link.plugin.sees_responses_last());
    early.chain(all().filter(|link| link.plugin.sees_responses_last()))
}

/// Lets the plugins log when the exchange is over, which is when it is dropped.
#[derive(Debug)]
struct Ending {
    ended: Ended,
    links: Vec<Arc<Link>>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        for link in &self.links {
            link.plugin.log(&self.ended);
        }
    }
}

fn ended(chain: &Chain, cx: &StreamCx, run: &Run, head: &ResponseHead) -> Ended {
    Ended {
        place: Arc::clone(&chain.place),
        request: run
            .request
            .clone()
            .unwrap_or_else(|| Arc::new(http::Request::new(()).into_parts().0)),
        consumer: run.credential.clone(),
        status: head.status.as_u16(),
        response_headers: head.headers.clone(),
        started: cx.started,
        started_at: cx.started_at,
        answered: Instant::now(),
        client: cx.remote,
        upstream: cx.upstream_host,
        port: cx.connection.local.port(),
    }
}

fn is_skipped(run: &Run, link: &Link) -> bool {
    run.skipped.contains(&link.name)
        || run.filtered.iter().any(|(id, runs)| *id == link.id && !runs)
}

fn exchange<'a>(
    chain: &'a Chain,
    cx: &'a mut StreamCx,
    head: &'a mut RequestHead,
    run: &'a mut Run,
    link: u64,
) -> Exchange<'a> {
    Exchange { cx, head, run, place: &chain.place, link }
}

impl Progress {
    /// Goes on until the end or the first plugin that replies or waits.
    fn advance(
        &mut self,
        chain: &Chain,
        cx: &mut StreamCx,
        head: &mut RequestHead,
        run: &mut Run,
    ) -> Option<Stop> {
        while self.stage != Stage::Done {
            if self.stage == Stage::Merge && self.next == 0 {
                self.merge(chain, run);
            }
            let links = self.links(chain, run);
            while let Some(link) = links.get(self.next) {
                self.next += 1;
                if self.stage == Stage::Merge && !self.late.contains(&link.id) {
                    continue;
                }
                let phase = self.phase();
                let stop = visit(link, phase, &mut exchange(chain, cx, head, run, link.id));
                if stop.is_some() {
                    return stop;
                }
            }
            self.stage = self.stage.next();
            self.next = 0;
        }
        None
    }

    fn links(&self, chain: &Chain, run: &Run) -> Arc<[Arc<Link>]> {
        match self.stage {
            Stage::GlobalRewrite | Stage::GlobalAccess => Arc::clone(&chain.global),
            _ => Arc::clone(run.merged.as_ref().unwrap_or(&chain.own)),
        }
    }

    fn phase(&self) -> Phase {
        match self.stage {
            Stage::GlobalAccess | Stage::Access => Phase::Access,
            _ => Phase::Rewrite,
        }
    }

    fn merge(&mut self, chain: &Chain, run: &mut Run) {
        let Some(credential) = &run.credential else { return };
        let of_consumer = &credential.consumer.links;
        if of_consumer.is_empty() {
            return;
        }
        let (all, new) = chain::merged(&chain.own, of_consumer);
        run.merged = Some(all.into());
        self.late = new;
    }
}

impl Stage {
    fn next(self) -> Self {
        match self {
            Self::GlobalRewrite => Self::Rewrite,
            Self::Rewrite => Self::Merge,
            Self::Merge => Self::GlobalAccess,
            Self::GlobalAccess => Self::Access,
            Self::Access | Self::Done => Self::Done,
        }
    }
}

/// One plugin's turn.
fn visit(link: &Arc<Link>, phase: Phase, exchange: &mut Exchange<'_>) -> Option<Stop> {
    if exchange.run.skipped.contains(&link.name) {
        return None;
    }
    if link.filter.is_some() {
        let known = exchange.run.filtered.iter().find(|(id, _)| *id == link.id);
        let runs = known.map_or_else(|| link.runs(&exchange.variables()), |(_, runs)| *runs);
        if known.is_none() {
            exchange.run.filtered.push((link.id, runs));
        }
        if !runs {
            return None;
        }
    }
    let step = match phase {
        Phase::Rewrite => link.plugin.rewrite(exchange),
        Phase::Access => link.plugin.access(exchange),
    };
    match step {
        Step::Continue => None,
        Step::Reply(reply) => {
            Some(Stop::Reply(reply.into_local(link.name, link.error_response.as_ref())))
        }
        Step::Wait => Some(Stop::Wait(Arc::clone(link), phase)),
    }
}

fn copy_of(head: &RequestHead) -> RequestHead {
    let (mut copy, ()) = http::Request::new(()).into_parts();
    copy.method.clone_from(&head.method);
    copy.uri.clone_from(&head.uri);
    copy.version = head.version;
    copy.headers.clone_from(&head.headers);
    copy
}

#[cfg(test)]
mod tests;
