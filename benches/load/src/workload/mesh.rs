//! Services on demand: a sidecar of a large mesh that calls a few of its services.

use anyhow::Result;

use super::{Conditions, Workload};
use crate::backend::{self, Service};
use crate::mesh::Mesh;
use crate::metric::{Metric, Sample};
use crate::peers::{self, Proxy, ProxyKind};

/// Services of the mesh.
const SERVICES: usize = 10_000;
/// Those that are called.
const CALLED: usize = 10;

/// Weft's control plane and one sidecar.
pub(super) struct OnDemand;

impl Workload for OnDemand {
    fn name(&self) -> &'static str {
        "mesh"
    }

    fn title(&self) -> &'static str {
        "a mesh of 10,000 services from Weft's control plane; the sidecar calls 10"
    }

    fn suits(&self, proxy: ProxyKind) -> bool {
        proxy == ProxyKind::Weft
    }

    fn rounds(&self, _asked: usize) -> usize {
        1
    }

    fn measure(&self, proxy: &Proxy, conditions: &Conditions) -> Result<Sample> {
        let control_plane = peers::built("weft-control-plane")?;
        let mesh = Mesh {
            control_plane: &control_plane,
            sidecar: proxy.program(),
            folder: &conditions.folder,
            backend: backend::start(Service::Http1)?,
            services: SERVICES,
            called: CALLED,
        };
        let result = mesh.measure()?;
        Ok(Sample::default()
            .with(Metric::Before, result.before as f64 / f64::from(1 << 20))
            .with(Metric::Resident, result.after as f64 / f64::from(1 << 20))
            .with(Metric::FirstCall, result.first_call))
    }
}
