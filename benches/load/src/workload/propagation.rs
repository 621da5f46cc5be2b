//! How soon a write is everywhere: many proxies, many routes, resources in etcd.

use anyhow::Result;

use super::{Conditions, Workload};
use crate::metric::{Metric, Sample};
use crate::peers::{self, Proxy, ProxyKind};
use crate::propagation::{Mesh, Plan};

/// Weft's control plane, a fleet of proxies that only listen, and one sidecar.
pub(super) struct Propagation;

impl Workload for Propagation {
    fn name(&self) -> &'static str {
        "propagation"
    }

    fn title(&self) -> &'static str {
        "writes to 10,000 routes in etcd with 1,000 proxies on delta xDS, all on the same cores"
    }

    fn suits(&self, proxy: ProxyKind) -> bool {
        proxy == ProxyKind::Weft
    }

    fn rounds(&self, _asked: usize) -> usize {
        1
    }

    fn measure(&self, proxy: &Proxy, conditions: &Conditions) -> Result<Sample> {
        let control_plane = peers::built("weft-control-plane")?;
        let mut mesh = Mesh::start(&Plan {
            control_plane: &control_plane,
            sidecar: proxy.program(),
            folder: &conditions.folder,
        })?;
        let (few, cpu) = mesh.writes(crate::propagation::FEW)?;
        let (all, _) = mesh.writes(crate::propagation::EVERYONE)?;
        let burst = mesh.burst()?;
        Ok(Sample::default()
            .with(Metric::FewTold, few.told.quantile(0.5) as f64 / 1e3)
            .with(Metric::FewToldP99, few.told.quantile(0.99) as f64 / 1e3)
            .with(Metric::Seen, few.seen.quantile(0.5) as f64 / 1e3)
            .with(Metric::SeenP99, few.seen.quantile(0.99) as f64 / 1e3)
            .with(Metric::AllTold, all.told.quantile(0.5) as f64 / 1e3)
            .with(Metric::AllToldP99, all.told.quantile(0.99) as f64 / 1e3)
            .with(Metric::WriteCpu, cpu * 1e3)
            .with(Metric::Writes, burst.rate)
            .with(Metric::Coalesced, burst.coalesced)
            .with(Metric::Settled, burst.settled * 1e3))
    }
}
