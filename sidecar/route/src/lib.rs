//! Route tables: compiled matching from a request to what is done with it.
//!
//! Finding a route does not take longer when there are more of them: hosts are
//! found in a hash, paths in a prefix tree whose candidates are then tried in
//! the order of the configuration, as Envoy's first match demands. What a match
//! leads to is the caller's own type.

mod conditions;
mod hosts;
mod paths;
mod strings;
mod table;
mod tree;

pub use conditions::{
    Beyond, Conditions, CookieMatcher, Fraction, HeaderField, HeaderMatcher, HeaderTest,
    QueryMatcher, QueryTest, cookie,
};
pub use paths::PathMatch;
pub use strings::{StringMatcher, StringPattern};
pub use table::{
    CompileError, CompiledHost, HostRule, Outcome, RouteRule, RouteTable, TableOptions,
};

use std::any::Any;

use http::{HeaderMap, Method};

/// The parts of a request that routes are chosen by.
#[derive(Clone, Copy, Debug)]
pub struct RequestView<'a> {
    /// The method.
    pub method: &'a Method,
    /// `http` or `https`, as the client used it.
    pub scheme: &'a str,
    /// `:authority` or `Host`, port included.
    pub authority: &'a str,
    /// The path without the query, normalised as the connection manager says.
    pub path: &'a str,
    /// The query, without `?`.
    pub query: Option<&'a str>,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// Chosen at random once for each request; decides on fractions.
    pub random: u64,
    /// What else is known of it, for [`Beyond`].
    pub around: Option<&'a dyn Any>,
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
