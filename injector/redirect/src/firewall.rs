//! Bringing the kernel's rules to what is wanted, and away again.

use crate::config::{Interception, Mode, PolicyRoutes};
use crate::error::Error;
use crate::local::{self, LocalNetwork};
use crate::program;
use crate::routes;
use crate::rule::{Family, RuleSet};
use crate::state::Saved;

/// Whether IPv6 is intercepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ipv6 {
    /// If an interface has a global IPv6 address.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never; rules of ours that are there are removed.
    Off,
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Nothing: it was so already.
    None,
    /// Rules were added where there were none.
    Installed,
    /// Other rules of ours were replaced.
    Replaced,
    /// Rules were removed.
    Removed,
}

/// The interception rules of the network namespace that this process is in.
#[derive(Debug, Clone, Copy)]
pub struct Firewall {
    ipv6: bool,
}

impl Firewall {
    /// Decides which IP versions are handled.
    #[must_use]
    pub fn new(ipv6: Ipv6, local: &LocalNetwork) -> Self {
        let ipv6 = match ipv6 {
            Ipv6::Auto => local.has_global_ipv6,
            Ipv6::On => true,
            Ipv6::Off => false,
        };
        Self { ipv6 }
    }

    /// The rules that [`Firewall::apply`] would bring about.
    #[must_use]
    pub fn wanted(self, interception: &Interception) -> Vec<RuleSet> {
        let families: &[Family] = if self.ipv6 { &[Family::V4, Family::V6] } else { &[Family::V4] };
        families.iter().map(|family| RuleSet::for_family(interception, *family)).collect()
    }

    /// Brings the kernel's rules to what `interception` wants: both IP versions or neither.
    ///
    /// # Errors
    ///
    /// When a program, privilege or the nat table is missing, or a rule is
    /// refused. What was changed before the failure is undone.
    pub fn apply(self, interception: &Interception) -> Result<Change, Error> {
        local::ensure_net_admin()?;
        let mut plans = Vec::new();
        for rules in self.wanted(interception) {
            program::probe_nat(rules.family())?;
            plans.push(Plan::new(rules)?);
        }
        if !self.ipv6 {
            plans.extend(leftover(Family::V6)?);
        }
        let added = self.ipv6 && !LocalNetwork::read().has_proxy_source;
        if added {
            local::add_proxy_source()?;
        }
        let result = run_all(&plans).and_then(|change| {
            let routed = self.route(interception)?;
            // The rules were there, the routes were not.
            Ok(if change == Change::None && routed { Change::Replaced } else { change })
        });
        if result.is_err() && added {
            // The failure itself is what must be told.
            let _ = local::remove_proxy_source();
        }
        result
    }

    /// Adds the routes of TPROXY, or takes the usual ones away; returns whether they changed.
    fn route(self, interception: &Interception) -> Result<bool, Error> {
        let mut changed = false;
        for rules in self.wanted(interception) {
            changed |= match interception.mode {
                Mode::Transparent(wanted) => routes::add(rules.family(), wanted)?,
                Mode::Redirect => routes::remove(rules.family(), PolicyRoutes::default())?,
            };
        }
        Ok(changed)
    }

    /// Removes all rules of ours, of both IP versions, whatever they are, and these routes.
    ///
    /// # Errors
    ///
    /// When a program or privilege is missing, or a removal is refused.
    pub fn cleanup(routes: PolicyRoutes) -> Result<Change, Error> {
        local::ensure_net_admin()?;
        let mut plans = vec![Plan::new(RuleSet::empty(Family::V4))?];
        plans.extend(leftover(Family::V6)?);
        let change = run_all(&plans)?;
        if change != Change::None && LocalNetwork::read().has_proxy_source {
            local::remove_proxy_source()?;
        }
        let mut routed = routes::remove(Family::V4, routes)?;
        // A machine without IPv6 has no routes of it.
        routed |= routes::remove(Family::V6, routes).unwrap_or(false);
        Ok(if change == Change::None && routed { Change::Removed } else { change })
    }
}

/// The removal of what is there of one IP version, where that can be read at all.
fn leftover(family: Family) -> Result<Option<Plan>, Error> {
    match Plan::new(RuleSet::empty(family)) {
        Ok(plan) => Ok(Some(plan)),
        // Without the program or the tables there are no rules either.
        Err(Error::Missing { .. } | Error::Failed { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// From what is there to what is wanted, for one IP version.
struct Plan {
    before: Saved,
    wanted: RuleSet,
}

impl Plan {
    fn new(wanted: RuleSet) -> Result<Self, Error> {
        let before = Saved::parse(&program::save(wanted.family())?);
        Ok(Self { before, wanted })
    }

    fn change(&self) -> Change {
        let empty = RuleSet::empty(self.wanted.family());
        if self.before.difference(&self.wanted).is_none() {
            Change::None
        } else if self.before.is_empty() {
            Change::Installed
        } else if self.wanted == empty {
            Change::Removed
        } else {
            Change::Replaced
        }
    }

    fn run(&self) -> Result<(), Error> {
        if self.change() == Change::None {
            return Ok(());
        }
        let family = self.wanted.family();
        program::restore(family, &self.before.replaced_by(&self.wanted))?;
        let after = Saved::parse(&program::save(family)?);
        match after.difference(&self.wanted) {
            None => Ok(()),
            Some(difference) => Err(Error::Differs { family, difference }),
        }
    }

    /// Back to what was there before, also from halfway.
    fn undo(&self) -> Result<(), Error> {
        let family = self.wanted.family();
        let now = Saved::parse(&program::save(family)?);
        if now == self.before {
            return Ok(());
        }
        program::restore(family, &now.returned_to(&self.before))
    }
}

fn run_all(plans: &[Plan]) -> Result<Change, Error> {
    for (done, plan) in plans.iter().enumerate() {
        if let Err(cause) = plan.run() {
            return Err(undo_all(&plans[..=done], cause));
        }
    }
    let changes = plans.iter().map(Plan::change);
    Ok(changes.fold(Change::None, |all, one| match (all, one) {
        (Change::None, one) => one,
        (all, Change::None) => all,
        (all, one) if all == one => all,
        _ => Change::Replaced,
    }))
}

fn undo_all(plans: &[Plan], cause: Error) -> Error {
    plans.iter().rev().fold(cause, |cause, plan| match plan.undo() {
        Ok(()) => cause,
        Err(undo) => Error::Undo {
            family: plan.wanted.family(),
            cause: Box::new(cause),
            undo: Box::new(undo),
        },
    })
}
