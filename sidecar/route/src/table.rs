//! The whole table: hosts, and below each its routes.

use std::sync::Arc;

use thiserror::Error;

use crate::hosts::{DomainFault, HostIndex};
use crate::paths::PathIndex;
use crate::{Conditions, PathMatch, RequestView};

/// One route: what it matches and what it leads to.
#[derive(Clone, Debug)]
pub struct RouteRule<R> {
    /// The path.
    pub path: PathMatch,
    /// Everything else.
    pub conditions: Conditions,
    /// What it leads to.
    pub value: R,
}

/// One virtual host: its domains and routes, first match first.
#[derive(Clone, Debug)]
pub struct HostRule<V, R> {
    /// `VirtualHost.domains`: `www.foo.com`, `*.foo.com`, `foo.*`, `*`; a port may follow.
    pub domains: Vec<String>,
    /// What belongs to the virtual host.
    pub value: V,
    /// The routes in order.
    pub routes: Vec<RouteRule<R>>,
}

/// Options for the whole table.
#[derive(Clone, Copy, Debug, Default)]
pub struct TableOptions {
    /// `RouteConfiguration.ignore_port_in_host_matching`
    pub ignore_port_in_host: bool,
}

/// Why a table could not be compiled.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum CompileError {
    /// Two virtual hosts have the same domain.
    #[error(
        "virtual_hosts[{host}].domains[{domain}]: the domain {name:?} is there twice; each domain may belong to one virtual host"
    )]
    DuplicateDomain {
        /// Index of the virtual host.
        host: usize,
        /// Index of the domain.
        domain: usize,
        /// The domain.
        name: String,
    },
    /// A domain has `*` in another place than its beginning or end.
    #[error(
        "virtual_hosts[{host}].domains[{domain}]: {name:?} is not a domain: `*` may stand alone, at the beginning or at the end"
    )]
    BadDomain {
        /// Index of the virtual host.
        host: usize,
        /// Index of the domain.
        domain: usize,
        /// The domain.
        name: String,
    },
}

/// What the table says about a request.
#[derive(Debug)]
pub enum Outcome<'a, V, R> {
    /// No virtual host has this domain.
    NoHost,
    /// The virtual host has no route that matches.
    NoRoute(&'a V),
    /// The first route that matches.
    Route(&'a V, &'a R),
}

/// Compiled virtual hosts and routes.
#[derive(Debug)]
pub struct RouteTable<V, R> {
    options: TableOptions,
    domains: HostIndex,
    hosts: Vec<Arc<CompiledHost<V, R>>>,
}

/// A compiled virtual host. Tables that differ in other hosts share it.
#[derive(Debug)]
pub struct CompiledHost<V, R> {
    value: V,
    paths: PathIndex,
    routes: Vec<RouteRule<R>>,
}

impl<V, R> RouteTable<V, R> {
    /// Compiles virtual hosts.
    ///
    /// # Errors
    /// A domain is malformed or there twice.
    pub fn compile(
        hosts: Vec<HostRule<V, R>>,
        options: TableOptions,
    ) -> Result<Self, CompileError> {
        let compiled: Vec<_> = hosts
            .into_iter()
            .map(|mut rule| (std::mem::take(&mut rule.domains), Arc::new(CompiledHost::new(rule))))
            .collect();
        let hosts = compiled.iter().map(|(domains, host)| (domains.as_slice(), Arc::clone(host)));
        Self::of(hosts, options)
    }

    /// Puts compiled virtual hosts together, each with its domains.
    ///
    /// # Errors
    /// A domain is malformed or there twice.
    pub fn of<'a>(
        hosts: impl Iterator<Item = (&'a [String], Arc<CompiledHost<V, R>>)>,
        options: TableOptions,
    ) -> Result<Self, CompileError> {
        let mut domains = HostIndex::default();
        let mut compiled = Vec::new();
        for (host, (names, rule)) in hosts.enumerate() {
            for (domain, name) in names.iter().enumerate() {
                domains.insert(name, host).map_err(|fault| fault.at(host, domain, name))?;
            }
            compiled.push(rule);
        }
        Ok(Self { options, domains, hosts: compiled })
    }

    /// Finds the first route that matches.
    #[must_use]
    pub fn find(&self, request: &RequestView<'_>) -> Outcome<'_, V, R> {
        let host = self.domains.find(request.authority, self.options.ignore_port_in_host);
        let Some(host) = host.map(|host| &self.hosts[host]) else { return Outcome::NoHost };
        match host.find(request) {
            Some(route) => Outcome::Route(&host.value, &route.value),
            None => Outcome::NoRoute(&host.value),
        }
    }

    /// Every virtual host and its routes, in the order of the configuration.
    pub fn iter(&self) -> impl Iterator<Item = (&V, &[RouteRule<R>])> {
        self.hosts.iter().map(|host| (&host.value, host.routes.as_slice()))
    }
}

impl<V, R> CompiledHost<V, R> {
    /// Compiles a virtual host; its domains are the table's matter.
    #[must_use]
    pub fn new(rule: HostRule<V, R>) -> Self {
        let mut paths = PathIndex::default();
        for (index, route) in (0..).zip(&rule.routes) {
            paths.insert(&route.path, index);
        }
        Self { value: rule.value, paths, routes: rule.routes }
    }

    /// What belongs to the virtual host.
    #[must_use]
    pub fn value(&self) -> &V {
        &self.value
    }

    /// Its routes in order.
    #[must_use]
    pub fn routes(&self) -> &[RouteRule<R>] {
        &self.routes
    }

    fn find(&self, request: &RequestView<'_>) -> Option<&RouteRule<R>> {
        let accepts = |index: u32| {
            let route = &self.routes[index as usize];
            route.path.matches(request) && route.conditions.hold(request)
        };
        self.paths.first(request.path, accepts).map(|index| &self.routes[index as usize])
    }
}

impl DomainFault {
    fn at(self, host: usize, domain: usize, name: &str) -> CompileError {
        let name = name.to_owned();
        match self {
            Self::Duplicate => CompileError::DuplicateDomain { host, domain, name },
            Self::Malformed => CompileError::BadDomain { host, domain, name },
        }
    }
}

#[cfg(test)]
mod tests;
