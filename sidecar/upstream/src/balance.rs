//! Load balancing: a subset, if the request asks for one; a priority, by the health of all; a
//! locality, if they are weighted; then an endpoint of it, by the policy.
//!
//! All that depends on the number of endpoints is computed when endpoints, their health or the
//! configuration change.

mod group;
mod hash;
mod localities;
mod maglev;
mod priorities;
mod ring;
mod schedule;
mod spread;
mod subsets;
mod zones;

use std::rc::Rc;

use weft_model::{Cluster, EndpointAddress, EndpointSet};

use crate::PickContext;
use crate::host::Member;
pub(crate) use priorities::{Census, shares};
use spread::Spread;
use subsets::SubsetTable;

/// Everything that a choice needs.
#[derive(Debug, Default)]
pub(crate) struct Balancer {
    all: Spread,
    subsets: Option<Box<SubsetTable>>,
}

impl Balancer {
    /// `members` stand as the endpoints do: by priority. `local` are the proxy's own peers, where
    /// routing is aware of zones.
    pub(crate) fn new(
        config: &Cluster,
        endpoints: &EndpointSet,
        members: &[Vec<Rc<Member>>],
        local: Option<&EndpointSet>,
    ) -> Self {
        let subsets = config.balancing.subsets.as_ref();
        Self {
            all: Spread::new(config, endpoints, members, local),
            subsets: subsets
                .map(|subsets| Box::new(SubsetTable::new(config, subsets, endpoints, members))),
        }
    }

    /// The endpoints of each priority, counted.
    pub(crate) fn census(&self) -> &[Census] {
        &self.all.census
    }

    /// Chooses an endpoint; none if there is none to choose from. `busy` is how many requests the
    /// cluster has in flight.
    pub(crate) fn pick(&self, cx: &PickContext<'_>, busy: u64) -> Option<Rc<Member>> {
        let spread = match &self.subsets {
            None => &self.all,
            Some(subsets) => subsets.find(cx.labels, &self.all)?,
        };
        let mut attempt = 0;
        loop {
            let member = spread.pick(cx.hash, attempt, busy)?;
            if attempt >= cx.host_attempts || !is_avoided(member, cx) {
                return Some(Rc::clone(member));
            }
            attempt += 1;
        }
    }
}

fn is_avoided(member: &Member, cx: &PickContext<'_>) -> bool {
    let tried = match &member.host.address {
        EndpointAddress::Socket(address) => cx.avoid.contains(address),
        EndpointAddress::Pipe(_) => false,
    };
    let has = |omit: &weft_model::Labels| {
        member.endpoint.labels.as_ref().is_some_and(|labels| subsets::contains(labels, omit))
    };
    tried || (cx.avoid_canaries && member.endpoint.is_canary()) || cx.avoid_labels.is_some_and(has)
}

#[cfg(test)]
mod tests;
