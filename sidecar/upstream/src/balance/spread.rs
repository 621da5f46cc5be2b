//! Endpoints of all priorities, and which part of the load goes where.

use std::rc::Rc;

use weft_model::{Cluster, EndpointSet, Health};

use super::group::Group;
use super::localities::Localities;
use super::priorities::{self, Census, Load};
use super::zones::Zones;
use crate::host::Member;

/// Where the hundred per cent of the load go.
#[derive(Debug, Default)]
pub(super) struct Spread {
    /// The last one's end is 100.
    pub(super) shares: Vec<Share>,
    /// The endpoints of each priority, counted.
    pub(super) census: Vec<Census>,
}

#[derive(Debug)]
pub(super) struct Share {
    /// The upper end of the share in per cent, the shares before it included.
    pub(super) end: u32,
    pub(super) place: Place,
}

/// The endpoints of a share.
#[derive(Debug)]
pub(super) enum Place {
    One(Group),
    Localities(Localities),
    Zones(Box<Zones>),
}

impl Spread {
    pub(super) fn new(
        config: &Cluster,
        endpoints: &EndpointSet,
        members: &[Vec<Rc<Member>>],
        local: Option<&EndpointSet>,
    ) -> Self {
        let census: Vec<_> = members.iter().map(|members| count(members)).collect();
        let loads =
            priorities::spread(&census, endpoints.overprovisioning_factor, config.panic_threshold);
        let zone = config.balancing.zone.as_ref();
        let mut end = 0;
        let shares = loads.into_iter().map(|load: Load| {
            end += load.percent;
            let all = &members[load.priority];
            let refuses = load.panic && zone.is_some_and(|zone| zone.fail_on_panic);
            let usable =
                |member: &&Rc<Member>| !refuses && (load.panic || member.health == load.health);
            let chosen: Vec<_> = all.iter().filter(usable).map(Rc::clone).collect();
            let weights = endpoints.priorities.get(load.priority).map(|level| &level.weights);
            let weighted = config.balancing.locality_weighted && !load.panic;
            let localities =
                weights.filter(|weights| weighted && !weights.is_empty()).and_then(|weights| {
                    let factor = endpoints.overprovisioning_factor;
                    Localities::place(config, weights, factor, all, &chosen)
                });
            // As Envoy: only the first priority, and only what is healthy.
            let by_zone = load.priority == 0 && !load.panic && load.health == Health::Healthy;
            let by_zone = || by_zone.then(|| Zones::place(config, &chosen, local)).flatten();
            let place = match localities.or_else(by_zone) {
                Some(place) => place,
                None => Place::One(Group::new(chosen, config)),
            };
            Share { end, place }
        });
        Self { shares: shares.collect(), census }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.shares.is_empty()
    }

    /// Chooses an endpoint; a later attempt looks elsewhere.
    pub(super) fn pick(&self, hash: Option<u64>, attempt: u32, busy: u64) -> Option<&Rc<Member>> {
        match self.place(hash)? {
            Place::One(group) => group.pick(hash, attempt, busy),
            Place::Localities(localities) => localities.next().pick(hash, attempt, busy),
            Place::Zones(zones) => zones.next().pick(hash, attempt, busy),
        }
    }

    fn place(&self, hash: Option<u64>) -> Option<&Place> {
        if let [only] = &self.shares[..] {
            return Some(&only.place);
        }
        let random = hash.unwrap_or_else(|| fastrand::u64(..)) % 100;
        let share = self.shares.iter().find(|share| random < u64::from(share.end));
        share.map(|share| &share.place)
    }
}

fn count(members: &[Rc<Member>]) -> Census {
    let of = |health| members.iter().filter(|member| member.health == health).count();
    let total = members.iter().filter(|member| !member.excluded).count();
    Census { total, healthy: of(Health::Healthy), degraded: of(Health::Degraded) }
}
