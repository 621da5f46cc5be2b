//! Waiting for what is fetched on demand. Only requests and connections come here whose virtual
//! host or cluster is not there.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use weft_filter_api::{LocalReply, OnDemandSettings};
use weft_model::{Demand, DemandAnswer, OnDemandFilter, Route, Routes, Wanted};
use weft_net::Timers;
use weft_telemetry::ResponseFlag;

use crate::inbound;
use crate::stream::Stream;

/// How long a virtual host is waited for where the filter names no time.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest name of a host that can exist (RFC 1035, 2.3.4), with a port.
const LONGEST_HOST: usize = 253 + 6;

/// Has the virtual host of a request fetched. A reply, if it can't be had in time.
pub(crate) async fn virtual_host(
    filter: &OnDemandFilter,
    routes: &Routes,
    stream: &mut Stream,
) -> Option<LocalReply> {
    let vhds = routes.vhds.filter(|_| !filter.disabled)?;
    let authority = inbound::authority(&stream.head);
    let host = if vhds.ignore_port { without_port(authority) } else { authority };
    if host.is_empty() || host.len() > LONGEST_HOST || host.contains('/') {
        return None;
    }
    let name = format!("{}/{}", routes.name, host.to_ascii_lowercase());
    let wanted = Wanted::VirtualHost(name.into());
    let patience = filter.settings.clusters.unwrap_or(PATIENCE);
    match wait(&filter.demand, &wanted, patience, &stream.connection.worker.timers).await {
        // The table says what becomes of the request.
        Some(DemandAnswer::There | DemandAnswer::Nothing) => None,
        Some(DemandAnswer::Overflow) => Some(unavailable(stream, "on_demand_overflow")),
        None => Some(unavailable(stream, "on_demand_timeout")),
    }
}

fn unavailable(stream: &mut Stream, details: &'static str) -> LocalReply {
    stream.cx.flags.set(ResponseFlag::NoRouteFound);
    LocalReply::text(StatusCode::SERVICE_UNAVAILABLE, "", details)
}

/// Has a cluster fetched that a route leads to; whether it is there now.
pub(crate) async fn cluster(
    filter: &OnDemandFilter,
    route: &Route,
    name: Arc<str>,
    timers: &Timers,
) -> bool {
    let Some(patience) = settings(filter, route).and_then(|settings| settings.clusters) else {
        return false;
    };
    let answer = wait(&filter.demand, &Wanted::Cluster(name), patience, timers).await;
    answer == Some(DemandAnswer::There)
}

/// What holds on this route.
fn settings(filter: &OnDemandFilter, route: &Route) -> Option<OnDemandSettings> {
    if route.disables(&filter.name) {
        return None;
    }
    let config = route.filter(&filter.name);
    if filter.disabled && config.is_none() {
        return None;
    }
    let own = config.and_then(|config| config.downcast_ref::<OnDemandSettings>());
    Some(own.copied().unwrap_or(filter.settings))
}

/// The answer, if it comes in time.
pub(crate) async fn wait(
    demand: &Demand,
    wanted: &Wanted,
    patience: Duration,
    timers: &Timers,
) -> Option<DemandAnswer> {
    let waiting = demand.ask(wanted);
    tokio::select! {
        biased;
        answer = waiting.answer() => Some(answer),
        () = timers.after(Some(patience)) => None,
    }
}

/// An authority without its port; the colons of an IPv6 address are none.
fn without_port(authority: &str) -> &str {
    match authority.rfind(':') {
        Some(colon) if authority.rfind(']').is_none_or(|bracket| bracket < colon) => {
            &authority[..colon]
        }
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_cut_off_and_an_address_is_not() {
        assert_eq!(without_port("a.demo:8080"), "a.demo");
        assert_eq!(without_port("a.demo"), "a.demo");
        assert_eq!(without_port("[::1]"), "[::1]");
        assert_eq!(without_port("[::1]:80"), "[::1]");
    }
}
