//! Endpoints among which the policy chooses.

use std::cell::Cell;
use std::rc::Rc;

use tokio::time::Instant;
use weft_model::{Cluster, EndpointAddress, LoadBalancing, SlowStart};

use super::hash;
use super::maglev::Maglev;
use super::ring::Ring;
use super::schedule::Schedule;
use crate::host::Member;

/// Endpoints that share a part of the load.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) members: Vec<Rc<Member>>,
    policy: Policy,
    slow_start: Option<SlowStart>,
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
    Hash {
        table: Table,
        bound: Option<Bound>,
    },
}

#[derive(Debug)]
enum Table {
    Ring(Ring),
    Maglev(Maglev),
}

/// How busy a host may be (`hash_balance_factor`).
#[derive(Debug)]
struct Bound {
    /// Of the average, as a factor.
    factor: f64,
    /// Each member's part of the whole.
    parts: Vec<f64>,
}

impl Group {
    pub(super) fn new(members: Vec<Rc<Member>>, config: &Cluster) -> Self {
        let weights: Vec<f64> =
            members.iter().map(|member| f64::from(member.endpoint.weight.max(1))).collect();
        Self::weighed(members, &weights, config)
    }

    /// A group whose members have other weights than their own.
    pub(super) fn weighed(members: Vec<Rc<Member>>, weights: &[f64], config: &Cluster) -> Self {
        let slow_start = config.balancing.slow_start;
        let equal = weights.windows(2).all(|pair| (pair[0] - pair[1]).abs() < f64::EPSILON)
            && slow_start.is_none();
        let policy = match &config.load_balancing {
            LoadBalancing::RoundRobin | LoadBalancing::ClusterProvided if equal => {
                Policy::Cycle(Cell::new(fastrand::usize(..members.len().max(1))))
            }
            LoadBalancing::RoundRobin | LoadBalancing::ClusterProvided => {
                Policy::Weighted(Schedule::new(weights))
            }
            LoadBalancing::LeastRequest { choices, .. } if equal => {
                Policy::LeastRequest { choices: (*choices).max(1) }
            }
            LoadBalancing::LeastRequest { bias, .. } => {
                Policy::WeightedLeastRequest { schedule: Schedule::new(weights), bias: *bias }
            }
            LoadBalancing::Random => Policy::Random,
            LoadBalancing::RingHash { min_size, max_size } => {
                let (keys, function) =
                    (keys(&members, config), hash::function(config.balancing.murmur));
                let table =
                    Table::Ring(Ring::new(&keys, weights, (*min_size, *max_size), function));
                Policy::Hash { table, bound: Bound::new(config, weights) }
            }
            LoadBalancing::Maglev { table_size } => {
                let table =
                    Table::Maglev(Maglev::new(&keys(&members, config), weights, *table_size));
                Policy::Hash { table, bound: Bound::new(config, weights) }
            }
        };
        Self { members, policy, slow_start }
    }

    pub(super) fn pick(&self, hash: Option<u64>, attempt: u32, busy: u64) -> Option<&Rc<Member>> {
        let count = self.members.len();
        if count <= 1 {
            return self.members.first();
        }
        let index = match &self.policy {
            Policy::Cycle(next) => {
                let index = next.get();
                next.set(if index + 1 == count { 0 } else { index + 1 });
                index
            }
            Policy::Weighted(schedule) => schedule.next(|index| self.weight(index)),
            Policy::LeastRequest { choices } => self.least_busy(*choices),
            Policy::WeightedLeastRequest { schedule, bias } => schedule.next(|index| {
                let active = self.members[index].host.active() as f64;
                self.weight(index) / (active + 1.0).powf(*bias)
            }),
            Policy::Random => fastrand::usize(..count),
            Policy::Hash { table, bound } => {
                let hash = hash.unwrap_or_else(|| fastrand::u64(..));
                let index = match table {
                    Table::Ring(ring) => ring.find(hash, attempt),
                    Table::Maglev(table) => table.find(hash, attempt),
                };
                match bound {
                    None => index,
                    Some(bound) => bound.keep(index, hash, busy, &self.members),
                }
            }
        };
        self.members.get(index)
    }

    /// A member's weight now: a new one begins with a part of it.
    fn weight(&self, index: usize) -> f64 {
        let member = &self.members[index];
        let weight = f64::from(member.endpoint.weight.max(1));
        match &self.slow_start {
            None => weight,
            Some(slow) => {
                let since = member.host.state.healthy_since();
                weight * slow.factor(Instant::now().saturating_duration_since(since))
            }
        }
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

impl Bound {
    fn new(config: &Cluster, weights: &[f64]) -> Option<Self> {
        let factor = f64::from(config.balancing.hash_balance?) / 100.0;
        let sum: f64 = weights.iter().sum();
        let parts = weights.iter().map(|weight| weight / sum.max(f64::MIN_POSITIVE)).collect();
        Some(Self { factor, parts })
    }

    /// The member, or, if it is too busy, the first in an order of its own for each hash that is
    /// not; the least busy one if all are.
    fn keep(&self, index: usize, hash: u64, busy: u64, members: &[Rc<Member>]) -> usize {
        let load = |at: usize| {
            let slots = (busy.max(1) as f64 * self.factor * self.parts[at]).ceil().max(1.0);
            members[at].host.active() as f64 / slots
        };
        if load(index) < 1.0 {
            return index;
        }
        let mut order: Vec<usize> = (0..members.len()).collect();
        fastrand::Rng::with_seed(hash).shuffle(&mut order);
        let free = order.iter().copied().find(|at| *at != index && load(*at) < 1.0);
        free.unwrap_or_else(|| {
            order.into_iter().min_by(|a, b| load(*a).total_cmp(&load(*b))).unwrap_or(index)
        })
    }
}

/// What is hashed for each member: its own key, its name, or its address as Envoy writes it.
fn keys(members: &[Rc<Member>], config: &Cluster) -> Vec<String> {
    let key = |member: &Rc<Member>| {
        let endpoint = &member.endpoint;
        let name = endpoint.hostname.as_ref().filter(|_| config.balancing.hash_hostname);
        match (&endpoint.hash_key, name, &member.host.address) {
            (Some(key), _, _) => key.clone(),
            (None, Some(name), _) => name.to_string(),
            (None, None, EndpointAddress::Socket(address)) => address.to_string(),
            (None, None, EndpointAddress::Pipe(path)) => path.display().to_string(),
        }
    };
    members.iter().map(key).collect()
}
