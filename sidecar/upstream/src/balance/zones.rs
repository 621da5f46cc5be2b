//! Zone aware routing: as much of the load as is fair stays in the proxy's own locality.
//!
//! Fair is what keeps the endpoints of all localities equally busy, given that the proxies of each
//! locality (the local cluster) send the same. Where the own locality has at least the part of the
//! endpoints that it has of the proxies, everything stays; else what exceeds its part goes where
//! endpoints are left over.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use weft_model::{Cluster, EndpointSet, Health, LoadBalancing, Locality, ZoneAware};

use super::group::Group;
use super::spread::Place;
use crate::host::Member;

/// Parts are counted in hundredths of a per cent.
const WHOLE: u64 = 10_000;

/// See the module.
#[derive(Debug)]
pub(super) struct Zones {
    local: Group,
    /// Which part of the load stays.
    stays: u64,
    /// The other localities, each with the upper end of its room for what does not stay.
    others: Vec<(u64, Group)>,
    /// For the part of the load that is not routed by zones.
    all: Group,
    /// `routing_enabled`
    enabled: u64,
}

impl Zones {
    /// The localities of the `chosen` members of the first priority; none where zones say nothing.
    pub(super) fn place(
        config: &Cluster,
        chosen: &[Rc<Member>],
        local: Option<&EndpointSet>,
    ) -> Option<Place> {
        let zone = config.balancing.zone.as_ref()?;
        if let LoadBalancing::RingHash { .. } | LoadBalancing::Maglev { .. } = config.load_balancing
        {
            return None;
        }
        if (chosen.len() as u64) < zone.min_size {
            return None;
        }
        let mut parts: BTreeMap<&Arc<Locality>, Vec<Rc<Member>>> = BTreeMap::new();
        for member in chosen {
            parts.entry(&member.endpoint.locality).or_default().push(Rc::clone(member));
        }
        let own = parts.iter().find(|(locality, _)| ****locality == zone.locality)?.1.clone();
        if parts.len() < 2 {
            return None;
        }
        let proxies = Proxies::count(local?, zone)?;
        let part = |members: &[Rc<Member>]| WHOLE * members.len() as u64 / chosen.len() as u64;
        let (here, mine) = (part(&own), proxies.part(&zone.locality));
        let mut end = 0;
        let others = parts.iter().filter(|(locality, _)| ****locality != zone.locality);
        let others = others.map(|(locality, members)| {
            end += part(members).saturating_sub(proxies.part(locality));
            (end, Group::new(members.clone(), config))
        });
        Some(Place::Zones(Box::new(Self {
            others: others.collect(),
            local: Group::new(own, config),
            stays: if here >= mine { WHOLE } else { WHOLE * here / mine },
            all: Group::new(chosen.to_vec(), config),
            enabled: zone.enabled.into(),
        })))
    }

    /// The locality whose turn it is.
    pub(super) fn next(&self) -> &Group {
        if self.enabled < WHOLE && fastrand::u64(..WHOLE) >= self.enabled {
            return &self.all;
        }
        if self.stays == WHOLE || fastrand::u64(..WHOLE) < self.stays {
            return &self.local;
        }
        let room = self.others.last().map_or(0, |(end, _)| *end);
        let chosen = match room {
            // Nobody has room left: all others share.
            0 => fastrand::usize(..self.others.len().max(1)),
            room => {
                let at = fastrand::u64(..room);
                self.others.iter().position(|(end, _)| at < *end).unwrap_or(0)
            }
        };
        self.others.get(chosen).map_or(&self.local, |(_, group)| group)
    }
}

/// The healthy endpoints of the local cluster.
struct Proxies<'a> {
    total: u64,
    by_locality: BTreeMap<&'a Locality, u64>,
}

impl<'a> Proxies<'a> {
    /// None where there are none, or none in the proxy's own locality.
    fn count(local: &'a EndpointSet, zone: &ZoneAware) -> Option<Self> {
        let mut by_locality: BTreeMap<&Locality, u64> = BTreeMap::new();
        let first = local.priorities.first()?;
        for endpoint in first.endpoints.iter().filter(|one| one.health == Health::Healthy) {
            *by_locality.entry(&endpoint.locality).or_default() += 1;
        }
        by_locality
            .contains_key(&zone.locality)
            .then(|| Self { total: by_locality.values().sum(), by_locality })
    }

    fn part(&self, locality: &Locality) -> u64 {
        WHOLE * self.by_locality.get(locality).copied().unwrap_or(0) / self.total.max(1)
    }
}
