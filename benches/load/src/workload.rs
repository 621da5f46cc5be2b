//! The kinds of work.

mod balance;
mod closed;
mod handshakes;
mod memory;
mod mesh;
mod open;
mod propagation;
mod routes;
mod scale;
mod size;
mod steady;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use crate::metric::Sample;
use crate::peers::{Proxy, ProxyKind};

/// What holds for every measurement of a run.
pub(crate) struct Conditions {
    /// A folder for configurations and logs.
    pub(crate) folder: PathBuf,
    /// Connections at a time, where a workload has no number of its own.
    pub(crate) connections: usize,
    /// How long a proxy is loaded before it is measured.
    pub(crate) warm_up: Duration,
    /// How long it is measured.
    pub(crate) measured: Duration,
}

/// One kind of work, measured for one proxy at a time.
///
/// A new one is a module below this one and a line in [`all`]; its goals are lines in `goals.rs`.
pub(crate) trait Workload {
    /// What `--only` calls it.
    fn name(&self) -> &'static str;

    /// What is done, for people.
    fn title(&self) -> &'static str;

    /// Whether a proxy can do this work at all, or is worth comparing.
    fn suits(&self, proxy: ProxyKind) -> bool;

    /// How often it is measured when `asked` rounds are wanted: less often where it takes long and
    /// hardly varies.
    fn rounds(&self, asked: usize) -> usize {
        asked
    }

    /// Finds out before the rounds what all of them have to share.
    fn prepare(&mut self, _proxies: &[&Proxy], _conditions: &Conditions) -> Result<()> {
        Ok(())
    }

    /// Starts the proxy, gives it the work and measures once.
    fn measure(&self, proxy: &Proxy, conditions: &Conditions) -> Result<Sample>;
}

/// Every workload, in the order of running.
pub(crate) fn all() -> Vec<Box<dyn Workload>> {
    let mut all: Vec<Box<dyn Workload>> = Vec::new();
    all.extend(closed::ALL.iter().map(|workload| Box::new(workload) as Box<dyn Workload>));
    all.push(Box::new(open::HalfOfSaturation::default()));
    all.push(Box::new(handshakes::Handshakes { resumed: false }));
    all.push(Box::new(handshakes::Handshakes { resumed: true }));
    all.push(Box::new(routes::LastRoute));
    all.push(Box::new(memory::Idle));
    all.push(Box::new(memory::KeepAlive));
    all.push(Box::new(balance::Balance { http2: false }));
    all.push(Box::new(balance::Balance { http2: true }));
    all.push(Box::new(scale::Scale));
    all.push(Box::new(scale::Churn));
    all.push(Box::new(mesh::OnDemand));
    all.push(Box::new(propagation::Propagation));
    all.push(Box::new(size::Binary));
    all
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_workload_has_a_name_of_its_own() {
        let names: BTreeSet<_> = all().iter().map(|workload| workload.name()).collect();
        assert_eq!(names.len(), all().len());
    }
}
