//! The whole table: hosts, and below each its routes.

use thiserror::Error;

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
    hosts: Vec<HostRule<V, R>>,
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
        let _ = options;
        Ok(Self { hosts })
    }

    /// Finds the first route that matches.
    #[must_use]
    pub fn find(&self, request: &RequestView<'_>) -> Outcome<'_, V, R> {
        let _ = (request, &self.hosts);
        Outcome::NoHost
    }
}
