//! Load balancing: first a priority, by the health of all; then an endpoint of it, by the policy.

mod maglev;
mod priorities;
mod ring;
mod schedule;

use std::cell::Cell;
use std::rc::Rc;

use weft_model::{Cluster, EndpointAddress, EndpointSet, Health, LoadBalancing};

use crate::PickContext;
use crate::host::Member;
use maglev::Maglev;
use priorities::{Census, Load};
use ring::Ring;
use schedule::Schedule;

/// Everything that a choice needs, computed when endpoints or configuration change.
#[derive(Debug, Default)]
pub(crate) struct Balancer {
    /// Where the hundred per cent of the load go; the last one's end is 100.
    shares: Vec<Share>,
}

#[derive(Debug)]
struct Share {
    /// The upper end of the share in per cent, the shares before it included.
    end: u32,
    group: Group,
}

/// Endpoints that share a part of the load.
#[derive(Debug)]
struct Group {
    members: Vec<Rc<Member>>,
    policy: Policy,
}

#[derive(Debug)]
enum Policy {
    /// One after the other.
    Cycle(Cell<usize>),
    /// One after the other, by weight.
    Weighted(Schedule),
    /// The least busy of some.
    LeastRequest {
        choices: u32,
    },
    /// By weight and how busy they are.
    WeightedLeastRequest {
        schedule: Schedule,
        bias: f64,
    },
    Random,
    Ring(Ring),
    Maglev(Maglev),
}

impl Balancer {
    /// `members` stand as the endpoints do: by priority.
    pub(crate) fn new(
        config: &Cluster,
        endpoints: &EndpointSet,
        members: &[Vec<Rc<Member>>],
    ) -> Self {
        let census: Vec<_> = members.iter().map(|members| count(members)).collect();
        let loads =
            priorities::spread(&census, endpoints.overprovisioning_factor, config.panic_threshold);
        let mut end = 0;
        let shares = loads.into_iter().map(|load: Load| {
            end += load.percent;
            let chosen = members[load.priority]
                .iter()
                .filter(|member| load.panic || member.health == load.health);
            let members = chosen.map(Rc::clone).collect();
            Share { end, group: Group::new(members, &config.load_balancing) }
        });
        Self { shares: shares.collect() }
    }

    /// Chooses an endpoint; none if no share has any.
    pub(crate) fn pick(&self, cx: &PickContext<'_>) -> Option<Rc<Member>> {
        let mut attempt = 0;
        loop {
            let member = self.group(cx.hash)?.pick(cx.hash, attempt)?;
            let EndpointAddress::Socket(address) = &member.host.address else {
                return Some(Rc::clone(member));
            };
            if attempt >= cx.host_attempts || !cx.avoid.contains(address) {
                return Some(Rc::clone(member));
            }
            attempt += 1;
        }
    }

    fn group(&self, hash: Option<u64>) -> Option<&Group> {
        if let [only] = &self.shares[..] {
            return Some(&only.group);
        }
        let random = hash.unwrap_or_else(|| fastrand::u64(..)) % 100;
        let share = self.shares.iter().find(|share| random < u64::from(share.end));
        share.map(|share| &share.group)
    }
}

fn count(members: &[Rc<Member>]) -> Census {
    let of = |health| members.iter().filter(|member| member.health == health).count();
    let total = members.iter().filter(|member| !member.excluded).count();
    Census { total, healthy: of(Health::Healthy), degraded: of(Health::Degraded) }
}

impl Group {
    fn new(members: Vec<Rc<Member>>, policy: &LoadBalancing) -> Self {
        let weights: Vec<u32> =
            members.iter().map(|member| member.endpoint.weight.max(1)).collect();
        let equal = weights.windows(2).all(|pair| pair[0] == pair[1]);
        let policy = match policy {
            LoadBalancing::RoundRobin | LoadBalancing::ClusterProvided if equal => {
                Policy::Cycle(Cell::new(fastrand::usize(..members.len().max(1))))
            }
            LoadBalancing::RoundRobin | LoadBalancing::ClusterProvided => {
                Policy::Weighted(Schedule::new(&weights))
            }
            LoadBalancing::LeastRequest { choices, .. } if equal => {
                Policy::LeastRequest { choices: (*choices).max(1) }
            }
            LoadBalancing::LeastRequest { bias, .. } => {
                Policy::WeightedLeastRequest { schedule: Schedule::new(&weights), bias: *bias }
            }
            LoadBalancing::Random => Policy::Random,
            LoadBalancing::RingHash { min_size, max_size } => {
                Policy::Ring(Ring::new(&keys(&members), &weights, *min_size, *max_size))
            }
            LoadBalancing::Maglev { table_size } => {
                Policy::Maglev(Maglev::new(&keys(&members), &weights, *table_size))
            }
        };
        Self { members, policy }
    }

    fn pick(&self, hash: Option<u64>, attempt: u32) -> Option<&Rc<Member>> {
        let count = self.members.len();
        if count <= 1 {
            return self.members.first();
        }
        let hash = || hash.unwrap_or_else(|| fastrand::u64(..));
        let index = match &self.policy {
            Policy::Cycle(next) => {
                let index = next.get();
                next.set(if index + 1 == count { 0 } else { index + 1 });
                index
            }
            Policy::Weighted(schedule) => schedule.next(|weight, _| f64::from(weight)),
            Policy::LeastRequest { choices } => self.least_busy(*choices),
            Policy::WeightedLeastRequest { schedule, bias } => schedule.next(|weight, index| {
                let active = self.members[index].host.active() as f64;
                f64::from(weight) / (active + 1.0).powf(*bias)
            }),
            Policy::Random => fastrand::usize(..count),
            Policy::Ring(ring) => ring.find(hash(), attempt),
            Policy::Maglev(table) => table.find(hash(), attempt),
        };
        self.members.get(index)
    }

    fn least_busy(&self, choices: u32) -> usize {
        let active = |index: usize| self.members[index].host.active();
        let mut best = fastrand::usize(..self.members.len());
        for _ in 1..choices {
            let other = fastrand::usize(..self.members.len());
            if active(other) < active(best) {
                best = other;
            }
        }
        best
    }
}

/// What is hashed for each member: its own key, or its address as Envoy writes it.
fn keys(members: &[Rc<Member>]) -> Vec<String> {
    let key = |member: &Rc<Member>| match (&member.endpoint.hash_key, &member.host.address) {
        (Some(key), _) => key.clone(),
        (None, EndpointAddress::Socket(address)) => address.to_string(),
        (None, EndpointAddress::Pipe(path)) => path.display().to_string(),
    };
    members.iter().map(key).collect()
}

#[cfg(test)]
mod tests;
