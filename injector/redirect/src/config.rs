//! What the interception of one network namespace should do.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};

/// The proxy's user and group, and what its ports are, as Istio numbers them.
const PROXY_ID: u32 = 1337;
const OUTBOUND_PORT: u16 = 15001;
const INBOUND_PORT: u16 = 15006;
const TUNNEL_PORT: u16 = 15008;
/// Metrics, readiness and the merged status port: for scrapers and kubelets outside the mesh.
const STATUS_PORTS: [u16; 3] = [15090, 15021, 15020];

/// The interception of one network namespace, validated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interception {
    /// Where outbound connections are sent (TCP port).
    pub outbound_port: u16,
    /// Where inbound connections are sent (TCP port).
    pub inbound_port: u16,
    /// The port of mesh tunnels, which is never redirected (TCP port).
    pub tunnel_port: u16,
    /// Users whose traffic is the proxy's own.
    pub proxy_uids: Vec<u32>,
    /// Groups whose traffic is the proxy's own.
    pub proxy_gids: Vec<u32>,
    /// Which inbound connections are redirected.
    pub inbound: PortSelection,
    /// To which destinations outbound connections are redirected.
    pub outbound: RangeSelection,
    /// Destinations that are left alone.
    pub outbound_excluded: Vec<IpNet>,
    /// Destination ports that are redirected whatever the destination.
    pub outbound_ports: Vec<u16>,
    /// Destination ports that are left alone.
    pub outbound_ports_excluded: Vec<u16>,
    /// Interfaces whose traffic is left alone, both ways.
    pub interfaces_excluded: Vec<InterfaceName>,
    /// Interfaces of virtual machines, whose inbound traffic counts as outbound.
    pub virtual_interfaces: Vec<InterfaceName>,
    /// Whose outbound traffic is redirected.
    pub groups: GroupSelection,
    /// The range that stands for the application on loopback, in IPv4.
    pub loopback_v4: Ipv4Net,
    /// Whether DNS is sent to the proxy too.
    pub dns: DnsCapture,
    /// Whether packets that belong to no known connection are dropped.
    pub drop_invalid: bool,
    /// How inbound connections get to the proxy.
    pub mode: Mode,
}

/// How inbound connections get to the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// `REDIRECT`: the destination is changed; the application sees the proxy as the client.
    #[default]
    Redirect,
    /// `TPROXY`: nothing is changed; the application sees the client. The proxy needs `NET_ADMIN`.
    Transparent(PolicyRoutes),
}

/// The routes that lead packets with a mark to this machine, wherever they are addressed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PolicyRoutes {
    /// The mark of inbound packets, and of the proxy's connections to the application.
    pub mark: u32,
    /// The routing table.
    pub table: u32,
}

impl PolicyRoutes {
    /// The mark of what the proxy sends over loopback for other reasons (as Istio).
    pub(crate) fn loopback_mark(self) -> u32 {
        self.mark.wrapping_add(1)
    }
}

impl Default for PolicyRoutes {
    fn default() -> Self {
        Self { mark: PROXY_ID, table: 133 }
    }
}

/// A choice of destination ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortSelection {
    /// No port.
    None,
    /// Every port but these.
    AllExcept(Vec<u16>),
    /// These ports.
    Only(Vec<u16>),
}

/// A choice of destination ranges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RangeSelection {
    /// Every destination.
    All,
    /// These ranges; none if empty.
    Only(Vec<IpNet>),
}

/// A choice of the groups whose outbound traffic is redirected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupSelection {
    /// All groups.
    All,
    /// These groups alone.
    Only(Vec<u32>),
    /// All groups but these.
    Except(Vec<u32>),
}

/// Which DNS queries go to the proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DnsCapture {
    /// None.
    Off,
    /// Those to the name servers of `resolv.conf`.
    Servers(Vec<IpAddr>),
    /// Every one to port 53.
    All,
}

/// The name of a network interface; a trailing `+` stands for any ending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceName(String);

impl Default for Interception {
    fn default() -> Self {
        Self {
            outbound_port: OUTBOUND_PORT,
            inbound_port: INBOUND_PORT,
            tunnel_port: TUNNEL_PORT,
            proxy_uids: vec![PROXY_ID],
            proxy_gids: vec![PROXY_ID],
            inbound: PortSelection::AllExcept(STATUS_PORTS.to_vec()),
            outbound: RangeSelection::All,
            outbound_excluded: Vec::new(),
            outbound_ports: Vec::new(),
            outbound_ports_excluded: Vec::new(),
            interfaces_excluded: Vec::new(),
            virtual_interfaces: Vec::new(),
            groups: GroupSelection::All,
            loopback_v4: Ipv4Net::new_assert([127, 0, 0, 1].into(), 32),
            dns: DnsCapture::Off,
            drop_invalid: false,
            mode: Mode::Redirect,
        }
    }
}

impl RangeSelection {
    /// Whether loopback addresses were asked for by name.
    pub(crate) fn names_loopback(&self) -> bool {
        match self {
            Self::All => false,
            Self::Only(ranges) => ranges.iter().any(|range| range.network().is_loopback()),
        }
    }
}

impl FromStr for InterfaceName {
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let fit = (1..=15).contains(&name.len())
            && name.bytes().all(|byte| {
                byte.is_ascii_graphic() && !matches!(byte, b'/' | b'"' | b'\'' | b'\\')
            });
        if fit {
            Ok(Self(name.to_owned()))
        } else {
            Err("an interface's name has 1 to 15 characters without spaces, slashes and quotes")
        }
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}
