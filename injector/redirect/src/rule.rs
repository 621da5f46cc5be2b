//! Rules as data, and their text for `iptables-restore`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::config::InterfaceName;

/// An IP version; each has tables of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4, through `iptables`.
    V4,
    /// IPv6, through `ip6tables`.
    V6,
}

/// A table of iptables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// Before connection tracking.
    Raw,
    /// Changes of packets.
    Mangle,
    /// Changes of addresses.
    Nat,
}

impl Table {
    /// All tables that rules of ours can be in.
    pub const ALL: [Self; 3] = [Self::Raw, Self::Mangle, Self::Nat];
}

/// Where in its chain a rule goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// Behind what is there.
    Last,
    /// At the front, before what is there.
    First,
}

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// One condition of a rule. The `bool` of some says that it is negated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// The source address is in this range.
    Source(IpNet),
    /// The destination address is in this range.
    Destination(bool, IpNet),
    /// It came in through this interface.
    In(InterfaceName),
    /// It goes out through this interface.
    Out(InterfaceName),
    /// It goes out through loopback.
    OutLoopback,
    /// Its protocol.
    Protocol(Protocol),
    /// Its destination port; needs a protocol before it.
    DestinationPort(bool, u16),
    /// Its destination port is none of these; needs a protocol before it.
    DestinationPortsExcept(Vec<u16>),
    /// Its source port; needs a protocol before it.
    SourcePort(u16),
    /// The user whose process sent it.
    Uid(bool, u32),
    /// The group whose process sent it.
    Gid(bool, u32),
    /// It belongs to no known connection.
    Invalid,
    /// It belongs to a connection that is known already.
    Known,
    /// Its mark.
    Mark(bool, u32),
    /// The mark of its connection.
    ConnectionMark(u32),
    /// It came in through loopback.
    InLoopback,
    /// Marks a rule in a chain of the system as ours.
    Ours,
}

/// What happens to a packet that meets all conditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Back to the calling chain; accepted if there is none.
    Return,
    /// Dropped.
    Drop,
    /// Sent to this port on this machine.
    Redirect(u16),
    /// On to a chain of ours.
    Jump(&'static str),
    /// Tracked in this zone.
    Zone(u16),
    /// Accepted.
    Accept,
    /// Marked.
    Mark(u32),
    /// Given to the transparent socket at this port, and marked; its addresses stay.
    Transparent {
        /// The port.
        port: u16,
        /// The address, which stands for all of the family.
        any: IpAddr,
        /// The mark.
        mark: u32,
    },
    /// Its mark becomes that of its connection.
    SaveMark,
    /// The mark of its connection becomes its own.
    RestoreMark,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The table it is in.
    pub table: Table,
    /// The chain it is in: one of ours, or one of the system.
    pub chain: &'static str,
    /// Its place there.
    pub position: Position,
    /// All of these must hold.
    pub matches: Vec<Match>,
    /// What happens then.
    pub target: Target,
}

/// The comment on rules of ours in the system's chains that no jump gives away.
pub(crate) const COMMENT: &str = "weft";
/// All bits of a packet's and of a connection's mark.
const WHOLE_MARKS: &str = "--nfmask 0xffffffff --ctmask 0xffffffff";
/// What the names of our chains begin with.
pub(crate) const CHAIN_PREFIX: &str = "ISTIO_";

/// All rules for one IP version, in the order in which packets meet them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleSet {
    family: Family,
    rules: Vec<Rule>,
}

impl RuleSet {
    pub(crate) fn new(family: Family, rules: Vec<Rule>) -> Self {
        Self { family, rules }
    }

    /// No rules at all: what a cleanup leads to.
    #[must_use]
    pub fn empty(family: Family) -> Self {
        Self::new(family, Vec::new())
    }

    /// The IP version.
    #[must_use]
    pub fn family(&self) -> Family {
        self.family
    }

    /// The rules in one table.
    pub fn in_table(&self, table: Table) -> impl Iterator<Item = &Rule> {
        self.rules.iter().filter(move |rule| rule.table == table)
    }

    /// The chains of ours in one table, in the order of first use.
    #[must_use]
    pub fn chains(&self, table: Table) -> Vec<&'static str> {
        let mut chains = Vec::new();
        for rule in self.in_table(table) {
            let target = match rule.target {
                Target::Jump(chain) => Some(chain),
                _ => None,
            };
            for chain in [Some(rule.chain), target].into_iter().flatten() {
                if chain.starts_with(CHAIN_PREFIX) && !chains.contains(&chain) {
                    chains.push(chain);
                }
            }
        }
        chains
    }

    /// The lines that add the rules of one table, without the chains' declarations.
    #[must_use]
    pub fn lines(&self, table: Table) -> Vec<String> {
        let mut first: Vec<(&str, u32)> = Vec::new();
        let line = |rule: &Rule| match rule.position {
            Position::Last => format!("-A {} {rule}", rule.chain),
            Position::First => {
                let at = first.iter().position(|(chain, _)| *chain == rule.chain);
                let at = at.unwrap_or_else(|| {
                    first.push((rule.chain, 0));
                    first.len() - 1
                });
                first[at].1 += 1;
                format!("-I {} {} {rule}", rule.chain, first[at].1)
            }
        };
        self.in_table(table).map(line).collect()
    }

    /// The input of `iptables-restore --noflush` that adds all rules to a
    /// namespace that has none of ours.
    #[must_use]
    pub fn restore_input(&self) -> String {
        let mut text = String::new();
        for table in Table::ALL {
            let lines = self.lines(table);
            if lines.is_empty() {
                continue;
            }
            text.push_str(&format!("*{table}\n"));
            for chain in self.chains(table) {
                text.push_str(&format!(":{chain} - [0:0]\n"));
            }
            for line in lines {
                text.push_str(&line);
                text.push('\n');
            }
            text.push_str("COMMIT\n");
        }
        text
    }
}

impl Family {
    /// The loopback address whose port the application listens on.
    pub(crate) fn loopback(self, ipv4: ipnet::Ipv4Net) -> IpNet {
        match self {
            Self::V4 => ipv4.into(),
            Self::V6 => IpNet::from(std::net::IpAddr::from(Ipv6Addr::LOCALHOST)),
        }
    }

    /// The address from which the proxy calls its own application.
    pub(crate) fn proxy_source(self) -> IpNet {
        match self {
            Self::V4 => IpNet::from(std::net::IpAddr::from(Ipv4Addr::new(127, 0, 0, 6))),
            Self::V6 => IpNet::from(std::net::IpAddr::from(Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6))),
        }
    }

    /// The address that stands for all.
    pub(crate) fn any(self) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Self::V6 => Ipv6Addr::UNSPECIFIED.into(),
        }
    }

    /// Whether a range belongs to this IP version.
    pub(crate) fn has(self, range: &IpNet) -> bool {
        matches!((self, range), (Self::V4, IpNet::V4(_)) | (Self::V6, IpNet::V6(_)))
    }
}

impl fmt::Display for Family {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

impl fmt::Display for Table {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Raw => "raw",
            Self::Mangle => "mangle",
            Self::Nat => "nat",
        })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for condition in &self.matches {
            write!(formatter, "{condition} ")?;
        }
        write!(formatter, "-j {}", self.target)
    }
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let not = |negated: &bool| if *negated { "! " } else { "" };
        match self {
            Self::Source(range) => write!(f, "-s {range}"),
            Self::Destination(negated, range) => write!(f, "{}-d {range}", not(negated)),
            Self::In(interface) => write!(f, "-i {interface}"),
            Self::Out(interface) => write!(f, "-o {interface}"),
            Self::OutLoopback => f.write_str("-o lo"),
            Self::Protocol(Protocol::Tcp) => f.write_str("-p tcp"),
            Self::Protocol(Protocol::Udp) => f.write_str("-p udp"),
            Self::DestinationPort(negated, port) => write!(f, "{}--dport {port}", not(negated)),
            Self::DestinationPortsExcept(ports) => {
                let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
                write!(f, "-m multiport ! --dports {}", ports.join(","))
            }
            Self::SourcePort(port) => write!(f, "--sport {port}"),
            Self::Uid(negated, uid) => write!(f, "-m owner {}--uid-owner {uid}", not(negated)),
            Self::Gid(negated, gid) => write!(f, "-m owner {}--gid-owner {gid}", not(negated)),
            Self::Invalid => f.write_str("-m conntrack --ctstate INVALID"),
            Self::Known => f.write_str("-m conntrack --ctstate RELATED,ESTABLISHED"),
            Self::Mark(negated, mark) => write!(f, "-m mark {}--mark {mark:#x}", not(negated)),
            Self::ConnectionMark(mark) => write!(f, "-m connmark --mark {mark:#x}"),
            Self::InLoopback => f.write_str("-i lo"),
            Self::Ours => write!(f, "-m comment --comment {COMMENT}"),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Return => formatter.write_str("RETURN"),
            Self::Drop => formatter.write_str("DROP"),
            Self::Redirect(port) => write!(formatter, "REDIRECT --to-ports {port}"),
            Self::Jump(chain) => formatter.write_str(chain),
            Self::Zone(zone) => write!(formatter, "CT --zone {zone}"),
            Self::Accept => formatter.write_str("ACCEPT"),
            Self::Mark(mark) => write!(formatter, "MARK --set-xmark {mark:#x}/0xffffffff"),
            Self::Transparent { port, any, mark } => write!(
                formatter,
                "TPROXY --on-port {port} --on-ip {any} --tproxy-mark {mark:#x}/0xffffffff"
            ),
            Self::SaveMark => write!(formatter, "CONNMARK --save-mark {WHOLE_MARKS}"),
            Self::RestoreMark => write!(formatter, "CONNMARK --restore-mark {WHOLE_MARKS}"),
        }
    }
}
