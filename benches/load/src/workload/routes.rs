//! Whether the place of a route in a long list matters.

use anyhow::Result;

use super::steady::{Stage, Unit, address};
use super::{Conditions, Workload};
use crate::backend::{self, Service};
use crate::load;
use crate::metric::{Metric, Sample};
use crate::peers::{Protocol, Proxy, ProxyKind, Setup};

/// Routes of the one virtual host.
const ROUTES: usize = 10_000;

/// HTTP/1.1 on the first and on the last of many routes, in turn.
pub(super) struct LastRoute;

impl Workload for LastRoute {
    fn name(&self) -> &'static str {
        "routes"
    }

    fn title(&self) -> &'static str {
        "HTTP/1.1 on the last of 10,000 routes, against the first, in one process; the other \
         columns are the last's"
    }

    fn suits(&self, proxy: ProxyKind) -> bool {
        matches!(proxy, ProxyKind::Weft | ProxyKind::Envoy)
    }

    fn measure(&self, proxy: &Proxy, conditions: &Conditions) -> Result<Sample> {
        let backend = backend::start(Service::Http1)?;
        let address = address()?;
        let setup = Setup { routes: ROUTES, ..Setup::new(Protocol::Http1, address, backend) };
        let stage = Stage { proxies: vec![proxy.start(&setup, &conditions.folder)?], address };
        let run = |route: usize| {
            let connections = conditions.connections;
            let measured = stage.measure(
                conditions.warm_up / 2,
                conditions.measured / 2,
                move |address, window| {
                    load::http1_path(address, connections, window, format!("/route-{route}/x"))
                },
            )?;
            anyhow::Ok(measured.sample(Unit::Request))
        };
        // First, last, last, first: what drifts meanwhile meets both alike.
        let rounds = [run(0)?, run(ROUTES - 1)?, run(ROUTES - 1)?, run(0)?];
        let cpu = |rounds: [&Sample; 2]| -> f64 {
            rounds.iter().filter_map(|sample| sample.value(Metric::Cpu)).sum()
        };
        let ratio = cpu([&rounds[1], &rounds[2]]) / cpu([&rounds[0], &rounds[3]]);
        Ok(Sample::medians(&rounds[1..3]).with(Metric::LastToFirst, ratio))
    }
}
