//! What the network namespace itself says: addresses, name servers, privilege.

use std::fs;
use std::net::{IpAddr, Ipv6Addr};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

use crate::error::Error;

/// The source address of what the proxy sends to its own application (IPv6).
const PROXY_SOURCE: Ipv6Addr = Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6);
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Bit of the effective capabilities, capabilities(7).
const CAP_NET_ADMIN: u32 = 12;

/// Facts about this network namespace.
#[derive(Debug, Clone, Default)]
pub struct LocalNetwork {
    /// Whether an interface other than loopback has a global IPv6 address.
    pub has_global_ipv6: bool,
    /// Whether loopback already has `::6`.
    pub has_proxy_source: bool,
}

impl LocalNetwork {
    /// Looks at the interfaces. One that can't be read counts as absent.
    #[must_use]
    pub fn read() -> Self {
        let mut seen = Self::default();
        let Ok(interfaces) = getifaddrs() else {
            return seen;
        };
        for interface in interfaces {
            let address = interface
                .address
                .and_then(|address| address.as_sockaddr_in6().map(|address| address.ip()));
            let Some(address) = address else { continue };
            if interface.flags.contains(InterfaceFlags::IFF_LOOPBACK) {
                seen.has_proxy_source |= address == PROXY_SOURCE;
            } else {
                seen.has_global_ipv6 |= !address.is_unicast_link_local();
            }
        }
        seen
    }
}

/// Gives loopback the address `::6`, without which the proxy can't use it.
pub(crate) fn add_proxy_source() -> Result<(), Error> {
    crate::program::ip(&["-6", "addr", "replace", "::6/128", "dev", "lo", "nodad"])
}

/// Takes `::6` from loopback.
pub(crate) fn remove_proxy_source() -> Result<(), Error> {
    crate::program::ip(&["-6", "addr", "del", "::6/128", "dev", "lo"])
}

/// The name servers of `resolv.conf`.
pub(crate) fn name_servers() -> Result<Vec<IpAddr>, Error> {
    let text = fs::read_to_string(RESOLV_CONF)
        .map_err(|source| Error::File { path: RESOLV_CONF, source })?;
    Ok(parse_name_servers(&text))
}

fn parse_name_servers(text: &str) -> Vec<IpAddr> {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        .filter_map(|rest| rest.split_whitespace().next()?.parse().ok())
        .collect()
}

/// Whether this process may change network settings; the error says what to do if not.
///
/// # Errors
///
/// [`Error::Privilege`] without the capability NET_ADMIN.
pub fn ensure_net_admin() -> Result<(), Error> {
    let effective = fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|status| {
            let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
            u64::from_str_radix(line.trim(), 16).ok()
        })
        .unwrap_or_default();
    if effective & (1 << CAP_NET_ADMIN) == 0 {
        return Err(Error::Privilege);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_of_both_families_are_read() {
        let text =
            "# comment\nsearch a b\nnameserver 10.0.0.10\nnameserver fd00::a extra\nnameserver x\n";
        let expected: Vec<IpAddr> = vec!["10.0.0.10".parse().unwrap(), "fd00::a".parse().unwrap()];
        assert_eq!(parse_name_servers(text), expected);
    }
}
