//! Localities that share a priority's load by their weights and how healthy they are.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use weft_model::{Cluster, LoadBalancing, Locality};

use super::group::Group;
use super::schedule::Schedule;
use super::spread::Place;
use crate::host::Member;

/// See the module.
#[derive(Debug)]
pub(super) struct Localities {
    groups: Vec<Group>,
    weights: Vec<f64>,
    schedule: Schedule,
}

impl Localities {
    /// The localities of the `chosen` among `all` members of a priority; none if no weight is left.
    /// Policies that hash have one table, in which the weights are those of the endpoints.
    pub(super) fn place(
        config: &Cluster,
        configured: &BTreeMap<Arc<Locality>, u32>,
        overprovisioning: u32,
        all: &[Rc<Member>],
        chosen: &[Rc<Member>],
    ) -> Option<Place> {
        let mut parts: BTreeMap<&Arc<Locality>, Vec<Rc<Member>>> = BTreeMap::new();
        for member in chosen {
            parts.entry(&member.endpoint.locality).or_default().push(Rc::clone(member));
        }
        let mut weighed = Vec::with_capacity(parts.len());
        for (locality, members) in parts {
            let here =
                |member: &&Rc<Member>| member.endpoint.locality == *locality && !member.excluded;
            let total = all.iter().filter(here).count().max(1);
            let factor = f64::from(overprovisioning) / 100.0;
            let available = (factor * members.len() as f64 / total as f64).min(1.0);
            let weight = configured.get(locality).copied().map_or(0.0, f64::from) * available;
            if weight > 0.0 {
                weighed.push((weight, members));
            }
        }
        if weighed.is_empty() {
            return None;
        }
        if let LoadBalancing::RingHash { .. } | LoadBalancing::Maglev { .. } = config.load_balancing
        {
            return Some(Place::One(one_table(config, weighed)));
        }
        let weights: Vec<f64> = weighed.iter().map(|(weight, _)| *weight).collect();
        let groups = weighed.into_iter().map(|(_, members)| Group::new(members, config));
        let schedule = Schedule::new(&weights);
        Some(Place::Localities(Self { groups: groups.collect(), weights, schedule }))
    }

    /// The locality whose turn it is.
    pub(super) fn next(&self) -> &Group {
        let at = self.schedule.next(|at| self.weights[at]);
        &self.groups[at]
    }
}

fn one_table(config: &Cluster, weighed: Vec<(f64, Vec<Rc<Member>>)>) -> Group {
    let mut members = Vec::new();
    let mut weights = Vec::new();
    for (weight, part) in weighed {
        let sum: f64 = part.iter().map(|member| f64::from(member.endpoint.weight)).sum();
        weights.extend(
            part.iter().map(|member| weight * f64::from(member.endpoint.weight) / sum.max(1.0)),
        );
        members.extend(part);
    }
    Group::weighed(members, &weights, config)
}
