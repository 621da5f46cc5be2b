//! Endpoints by their metadata: a request that asks for some meets those alone (`lb_subset_config`).

use std::collections::HashMap;
use std::rc::Rc;

use foldhash::fast::RandomState;
use weft_model::{Cluster, EndpointSet, Labels, SubsetFallback, SubsetSelector, Subsets};

use super::spread::Spread;
use crate::host::Member;

/// See the module.
#[derive(Debug)]
pub(super) struct SubsetTable {
    selectors: Vec<SubsetSelector>,
    fallback: SubsetFallback,
    default: Spread,
    /// By the values of a selector's keys.
    subsets: HashMap<Labels, Spread, RandomState>,
}

impl SubsetTable {
    pub(super) fn new(
        config: &Cluster,
        subsets: &Subsets,
        endpoints: &EndpointSet,
        members: &[Vec<Rc<Member>>],
    ) -> Self {
        let weighted = config.balancing.locality_weighted && subsets.locality_weighted;
        let unweighted;
        let endpoints = if weighted {
            endpoints
        } else {
            unweighted = EndpointSet {
                overprovisioning_factor: endpoints.overprovisioning_factor,
                ..EndpointSet::default()
            };
            &unweighted
        };
        let spread = |wanted: &Labels, single: bool| {
            let has = |member: &&Rc<Member>| {
                member.endpoint.labels.as_ref().is_some_and(|labels| contains(labels, wanted))
                    || wanted.is_empty()
            };
            let mut parts: Vec<Vec<Rc<Member>>> = members
                .iter()
                .map(|members| members.iter().filter(has).map(Rc::clone).collect())
                .collect();
            if single {
                parts.iter_mut().for_each(|part| part.truncate(1));
            }
            Spread::new(config, endpoints, &parts, None)
        };
        let mut table = HashMap::default();
        for selector in &subsets.selectors {
            for member in members.iter().flatten() {
                let Some(labels) = &member.endpoint.labels else { continue };
                if let Some(values) = restrict(labels, &selector.keys) {
                    table
                        .entry(values)
                        .or_insert_with_key(|values| spread(values, selector.single_host));
                }
            }
        }
        Self {
            selectors: subsets.selectors.clone(),
            fallback: subsets.fallback.clone(),
            default: spread(&subsets.default, false),
            subsets: table,
        }
    }

    /// Where a request goes that asks for these labels.
    pub(super) fn find<'a>(
        &'a self,
        wanted: Option<&Labels>,
        all: &'a Spread,
    ) -> Option<&'a Spread> {
        let Some(wanted) = wanted.filter(|wanted| !wanted.is_empty()) else {
            return self.fall_back(&self.fallback, all);
        };
        if let Some(found) = self.subset(wanted) {
            return Some(found);
        }
        let selector =
            self.selectors.iter().find(|selector| selector.keys.iter().eq(wanted.keys()));
        match selector.and_then(|selector| selector.fallback.as_ref()) {
            Some(SubsetFallback::Keys(keys)) => {
                let fewer = restrict(wanted, keys)?;
                self.find(Some(&fewer), all)
            }
            own => self.fall_back(own.unwrap_or(&self.fallback), all),
        }
    }

    fn subset(&self, wanted: &Labels) -> Option<&Spread> {
        self.subsets.get(wanted).filter(|spread| !spread.is_empty())
    }

    fn fall_back<'a>(&'a self, policy: &SubsetFallback, all: &'a Spread) -> Option<&'a Spread> {
        match policy {
            SubsetFallback::None | SubsetFallback::Keys(_) => None,
            SubsetFallback::Any => Some(all),
            SubsetFallback::Default => Some(&self.default),
        }
    }
}

/// Whether all of `wanted` is there.
pub(super) fn contains(labels: &Labels, wanted: &Labels) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// The labels of these keys; none if one is missing.
fn restrict(labels: &Labels, keys: &[String]) -> Option<Labels> {
    keys.iter().map(|key| labels.get_key_value(key).map(|(k, v)| (k.clone(), v.clone()))).collect()
}
