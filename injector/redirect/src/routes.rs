//! The routes of TPROXY: packets with the mark are this machine's, whatever their destination.

use crate::config::PolicyRoutes;
use crate::error::Error;
use crate::program;
use crate::rule::Family;

/// Puts the routes in place; returns whether they were missing.
pub(crate) fn add(family: Family, routes: PolicyRoutes) -> Result<bool, Error> {
    let missing = !is_there(family, routes)?;
    let table = routes.table.to_string();
    let version = version(family);
    program::ip(&[version, "route", "replace", "local", "default", "dev", "lo", "table", &table])?;
    if missing {
        program::ip(&[version, "rule", "add", "fwmark", &mark(routes), "lookup", &table])?;
    }
    Ok(missing)
}

/// Takes the routes away; returns whether they were there.
pub(crate) fn remove(family: Family, routes: PolicyRoutes) -> Result<bool, Error> {
    if !is_there(family, routes)? {
        return Ok(false);
    }
    let table = routes.table.to_string();
    let version = version(family);
    program::ip(&[version, "rule", "del", "fwmark", &mark(routes), "lookup", &table])?;
    program::ip(&[version, "route", "flush", "table", &table])?;
    Ok(true)
}

fn is_there(family: Family, routes: PolicyRoutes) -> Result<bool, Error> {
    let rules = program::ip_output(&[version(family), "rule", "list"])?;
    let wanted = format!("fwmark {} lookup {}", mark(routes), routes.table);
    Ok(rules.lines().any(|line| line.trim_end().ends_with(&wanted)))
}

fn version(family: Family) -> &'static str {
    match family {
        Family::V4 => "-4",
        Family::V6 => "-6",
    }
}

fn mark(routes: PolicyRoutes) -> String {
    format!("{:#x}", routes.mark)
}
