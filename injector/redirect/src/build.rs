//! From what an interception should do to the rules that do it.
//!
//! Chains and order are Istio's, so that what people know about reading them
//! holds here. The order matters: the first rule that fits decides.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::{
    DnsCapture, GroupSelection, Interception, Mode, PolicyRoutes, PortSelection, RangeSelection,
};
use crate::rule::{Family, Match, Position, Protocol, Rule, RuleSet, Table, Target};

const PREROUTING: &str = "PREROUTING";
const OUTPUT: &str = "OUTPUT";
const ISTIO_INBOUND: &str = "ISTIO_INBOUND";
const ISTIO_OUTPUT: &str = "ISTIO_OUTPUT";
const ISTIO_REDIRECT: &str = "ISTIO_REDIRECT";
const ISTIO_IN_REDIRECT: &str = "ISTIO_IN_REDIRECT";
const ISTIO_OUTPUT_DNS: &str = "ISTIO_OUTPUT_DNS";
const ISTIO_DROP: &str = "ISTIO_DROP";
const ISTIO_DIVERT: &str = "ISTIO_DIVERT";
const ISTIO_TPROXY: &str = "ISTIO_TPROXY";

const DNS_PORT: u16 = 53;
const DNS_PROXY_PORT: u16 = 15053;
/// Queries of the application and of the proxy are tracked apart, since both
/// may use the same source port.
const PROXY_ZONE: u16 = 1;
const APPLICATION_ZONE: u16 = 2;

const TCP: Match = Match::Protocol(Protocol::Tcp);
const UDP: Match = Match::Protocol(Protocol::Udp);

impl RuleSet {
    /// The rules for one IP version. Touches nothing.
    #[must_use]
    pub fn for_family(interception: &Interception, family: Family) -> Self {
        let mut builder = Builder {
            wanted: interception,
            family,
            loopback: family.loopback(interception.loopback_v4),
            rules: Vec::new(),
        };
        builder.virtual_interfaces();
        builder.excluded_interfaces();
        builder.redirections();
        builder.inbound();
        builder.outbound();
        builder.dns_tracking();
        builder.invalid();
        Self::new(family, builder.rules)
    }
}

/// Either kind of the proxy's identity, so that users and groups share their rules.
type Owner = fn(bool, u32) -> Match;

struct Builder<'a> {
    wanted: &'a Interception,
    family: Family,
    loopback: IpNet,
    rules: Vec<Rule>,
}

impl Builder<'_> {
    fn add(&mut self, table: Table, chain: &'static str, matches: &[Match], target: Target) {
        self.rules.push(Rule {
            table,
            chain,
            position: Position::Last,
            matches: matches.to_vec(),
            target,
        });
    }

    fn nat(&mut self, chain: &'static str, matches: &[Match], target: Target) {
        self.add(Table::Nat, chain, matches, target);
    }

    fn mangle(&mut self, chain: &'static str, matches: &[Match], target: Target) {
        self.add(Table::Mangle, chain, matches, target);
    }

    /// What virtual machines send arrives by PREROUTING, though it is outbound.
    fn virtual_interfaces(&mut self) {
        let ranges: Vec<Option<IpNet>> = match &self.wanted.outbound {
            RangeSelection::All => vec![None],
            RangeSelection::Only(ranges) => self.of_family(ranges).map(Some).collect(),
        };
        for interface in &self.wanted.virtual_interfaces {
            let redirected = ranges.iter().map(|range| {
                let mut matches = vec![Match::In(interface.clone())];
                matches.extend(range.map(|range| Match::Destination(false, range)));
                (matches, Target::Jump(ISTIO_REDIRECT))
            });
            let returned = (vec![Match::In(interface.clone()), Match::Ours], Target::Return);
            for (matches, target) in redirected.chain([returned]).collect::<Vec<_>>() {
                self.rules.push(Rule {
                    table: Table::Nat,
                    chain: PREROUTING,
                    position: Position::First,
                    matches,
                    target,
                });
            }
        }
    }

    fn excluded_interfaces(&mut self) {
        for interface in &self.wanted.interfaces_excluded {
            let inbound = [Match::In(interface.clone()), Match::Ours];
            let outbound = [Match::Out(interface.clone()), Match::Ours];
            self.nat(PREROUTING, &inbound, Target::Return);
            self.nat(OUTPUT, &outbound, Target::Return);
        }
    }

    fn redirections(&mut self) {
        let tunnel = Match::DestinationPort(false, self.wanted.tunnel_port);
        self.nat(ISTIO_INBOUND, &[TCP, tunnel], Target::Return);
        let outbound = Target::Redirect(self.wanted.outbound_port);
        self.nat(ISTIO_REDIRECT, &[TCP], outbound);
        let inbound = Target::Redirect(self.wanted.inbound_port);
        self.nat(ISTIO_IN_REDIRECT, &[TCP], inbound);
    }

    fn inbound(&mut self) {
        if let Mode::Transparent(routes) = self.wanted.mode {
            return self.transparent(routes);
        }
        let port = |port: &u16| [TCP, Match::DestinationPort(false, *port)];
        match &self.wanted.inbound {
            PortSelection::None => return,
            PortSelection::AllExcept(ports) => {
                for excluded in ports {
                    self.nat(ISTIO_INBOUND, &port(excluded), Target::Return);
                }
                self.nat(ISTIO_INBOUND, &[TCP], Target::Jump(ISTIO_IN_REDIRECT));
            }
            PortSelection::Only(ports) => {
                for included in ports {
                    let target = Target::Jump(ISTIO_IN_REDIRECT);
                    self.nat(ISTIO_INBOUND, &port(included), target);
                }
            }
        }
        self.nat(PREROUTING, &[TCP], Target::Jump(ISTIO_INBOUND));
    }

    /// Inbound connections as they are: the packets go to the proxy's transparent socket, those of
    /// its connections to the application and the answers are led back by marks.
    fn transparent(&mut self, routes: PolicyRoutes) {
        if self.wanted.inbound == PortSelection::None {
            return;
        }
        let mark = routes.mark;
        let source = Match::Source(self.family.proxy_source());
        let not_of_proxy = Match::Mark(true, routes.loopback_mark());
        self.mangle(ISTIO_INBOUND, &[TCP, Match::Mark(false, mark)], Target::Return);
        self.mangle(ISTIO_INBOUND, &[TCP, source, Match::InLoopback], Target::Return);
        self.mangle(ISTIO_INBOUND, &[TCP, Match::InLoopback, not_of_proxy], Target::Return);
        let capture = |builder: &mut Self, matches: &[Match]| {
            let known = [matches, &[Match::Known]].concat();
            builder.mangle(ISTIO_INBOUND, &known, Target::Jump(ISTIO_DIVERT));
            builder.mangle(ISTIO_INBOUND, matches, Target::Jump(ISTIO_TPROXY));
        };
        let port = |port: &u16| [TCP, Match::DestinationPort(false, *port)];
        match &self.wanted.inbound {
            PortSelection::None => {}
            PortSelection::AllExcept(ports) => {
                for excluded in ports {
                    self.mangle(ISTIO_INBOUND, &port(excluded), Target::Return);
                }
                capture(self, &[TCP]);
            }
            PortSelection::Only(ports) => {
                for included in ports {
                    capture(self, &port(included));
                }
            }
        }
        self.mangle(ISTIO_DIVERT, &[], Target::Mark(mark));
        self.mangle(ISTIO_DIVERT, &[], Target::Accept);
        let elsewhere = Match::Destination(true, self.loopback);
        let (port, any) = (self.wanted.inbound_port, self.family.any());
        let proxy = Target::Transparent { port, any, mark };
        self.mangle(ISTIO_TPROXY, &[elsewhere.clone(), TCP], proxy);
        self.mangle(PREROUTING, &[TCP], Target::Jump(ISTIO_INBOUND));
        let marked = [TCP, Match::Mark(false, mark), Match::Ours];
        self.mangle(PREROUTING, &marked, Target::SaveMark);
        let marked = [TCP, Match::OutLoopback, Match::Mark(false, mark), Match::Ours];
        self.mangle(OUTPUT, &marked, Target::Return);
        let uids = self.wanted.proxy_uids.iter().map(|id| Match::Uid(false, *id));
        let gids = self.wanted.proxy_gids.iter().map(|id| Match::Gid(false, *id));
        for owner in uids.chain(gids).collect::<Vec<_>>() {
            let own = [elsewhere.clone(), TCP, Match::OutLoopback, owner, Match::Ours];
            self.mangle(OUTPUT, &own, Target::Mark(routes.loopback_mark()));
        }
        let answers = [TCP, Match::ConnectionMark(mark), Match::Ours];
        self.mangle(OUTPUT, &answers, Target::RestoreMark);
    }

    fn outbound(&mut self) {
        self.nat(OUTPUT, &[], Target::Jump(ISTIO_OUTPUT));
        for port in &self.wanted.outbound_ports_excluded {
            for protocol in [TCP, UDP] {
                let matches = [protocol, Match::DestinationPort(false, *port)];
                self.nat(ISTIO_OUTPUT, &matches, Target::Return);
            }
        }
        let source = Match::Source(self.family.proxy_source());
        self.nat(ISTIO_OUTPUT, &[source, Match::OutLoopback], Target::Return);
        if let Mode::Transparent(routes) = self.wanted.mode {
            // The proxy calls the application from the client's address.
            let own = [Match::OutLoopback, Match::Mark(false, routes.mark)];
            self.nat(ISTIO_OUTPUT, &own, Target::Return);
        }
        for uid in &self.wanted.proxy_uids {
            self.proxy_traffic(Match::Uid, *uid, self.captures_dns());
        }
        for gid in &self.wanted.proxy_gids {
            self.proxy_traffic(Match::Gid, *gid, false);
        }
        self.groups();
        self.dns_redirection();
        let loopback = Match::Destination(false, self.loopback);
        self.nat(ISTIO_OUTPUT, &[loopback], Target::Return);
        self.destinations();
    }

    /// Keeps the proxy's own traffic out of the proxy, except for an
    /// application that calls itself by its service's address: that must pass
    /// the inbound side, with its policies.
    fn proxy_traffic(&mut self, owner: Owner, id: u32, spare_dns: bool) {
        let not_tunnel = if spare_dns {
            Match::DestinationPortsExcept(vec![DNS_PORT, self.wanted.tunnel_port])
        } else {
            Match::DestinationPort(true, self.wanted.tunnel_port)
        };
        let to_itself = [
            Match::Destination(true, self.loopback),
            Match::OutLoopback,
            TCP,
            not_tunnel,
            owner(false, id),
        ];
        self.nat(ISTIO_OUTPUT, &to_itself, Target::Jump(ISTIO_IN_REDIRECT));
        if !self.wanted.outbound.names_loopback() {
            let mut matches = vec![Match::OutLoopback];
            if self.captures_dns() {
                // A name server on localhost is still asked through the proxy.
                matches.extend([TCP, Match::DestinationPort(true, DNS_PORT)]);
            }
            matches.push(owner(true, id));
            self.nat(ISTIO_OUTPUT, &matches, Target::Return);
        }
        self.nat(ISTIO_OUTPUT, &[owner(false, id)], Target::Return);
    }

    fn groups(&mut self) {
        match &self.wanted.groups {
            GroupSelection::All => {}
            GroupSelection::Only(groups) => {
                let matches: Vec<_> = groups.iter().map(|gid| Match::Gid(true, *gid)).collect();
                self.nat(ISTIO_OUTPUT, &matches, Target::Return);
            }
            GroupSelection::Except(groups) => {
                for gid in groups {
                    self.nat(ISTIO_OUTPUT, &[Match::Gid(false, *gid)], Target::Return);
                }
            }
        }
    }

    fn destinations(&mut self) {
        let excluded: Vec<_> = self.of_family(&self.wanted.outbound_excluded).collect();
        for range in excluded {
            let matches = [Match::Destination(false, range)];
            self.nat(ISTIO_OUTPUT, &matches, Target::Return);
        }
        let redirect = Target::Jump(ISTIO_REDIRECT);
        for port in &self.wanted.outbound_ports {
            let matches = [TCP, Match::DestinationPort(false, *port)];
            self.nat(ISTIO_OUTPUT, &matches, redirect);
        }
        match &self.wanted.outbound {
            RangeSelection::All => self.nat(ISTIO_OUTPUT, &[], redirect),
            RangeSelection::Only(ranges) => {
                let included: Vec<_> = self.of_family(ranges).collect();
                for range in included {
                    let matches = [Match::Destination(false, range)];
                    self.nat(ISTIO_OUTPUT, &matches, redirect);
                }
            }
        }
    }

    fn dns_redirection(&mut self) {
        let servers = self.name_servers();
        if servers.is_empty() {
            return;
        }
        self.nat(ISTIO_OUTPUT, &[], Target::Jump(ISTIO_OUTPUT_DNS));
        for protocol in [TCP, UDP] {
            for server in &servers {
                let mut matches: Vec<_> =
                    server.map(|server| Match::Destination(false, server)).into_iter().collect();
                matches.extend([protocol.clone(), Match::DestinationPort(false, DNS_PORT)]);
                self.nat(ISTIO_OUTPUT_DNS, &matches, Target::Redirect(DNS_PROXY_PORT));
            }
        }
    }

    fn dns_tracking(&mut self) {
        if !self.captures_dns() {
            return;
        }
        let (raw, output) = (Table::Raw, ISTIO_OUTPUT_DNS);
        self.add(raw, OUTPUT, &[], Target::Jump(output));
        let uids = self.wanted.proxy_uids.iter().map(|id| Match::Uid(false, *id));
        let gids = self.wanted.proxy_gids.iter().map(|id| Match::Gid(false, *id));
        for owner in uids.chain(gids).collect::<Vec<_>>() {
            let query = [UDP, Match::DestinationPort(false, DNS_PORT), owner.clone()];
            self.add(raw, output, &query, Target::Zone(PROXY_ZONE));
            let answer = [UDP, Match::SourcePort(DNS_PROXY_PORT), owner];
            self.add(raw, output, &answer, Target::Zone(APPLICATION_ZONE));
        }
        let servers = self.name_servers();
        for server in &servers {
            let to = server.map(|server| Match::Destination(false, server));
            let mut query: Vec<_> = to.into_iter().collect();
            query.extend([UDP, Match::DestinationPort(false, DNS_PORT)]);
            self.add(raw, output, &query, Target::Zone(APPLICATION_ZONE));
        }
        if !servers.is_empty() {
            self.add(raw, PREROUTING, &[], Target::Jump(ISTIO_INBOUND));
        }
        for server in servers {
            let mut answer: Vec<_> = server.map(Match::Source).into_iter().collect();
            answer.extend([UDP, Match::SourcePort(DNS_PORT)]);
            self.add(raw, ISTIO_INBOUND, &answer, Target::Zone(PROXY_ZONE));
        }
    }

    fn invalid(&mut self) {
        if self.wanted.drop_invalid {
            let drop = Target::Jump(ISTIO_DROP);
            self.add(Table::Mangle, PREROUTING, &[Match::Invalid], drop);
            self.add(Table::Mangle, ISTIO_DROP, &[], Target::Drop);
        }
    }

    fn captures_dns(&self) -> bool {
        self.wanted.dns != DnsCapture::Off
    }

    /// The captured name servers of this IP version; `None` stands for any.
    fn name_servers(&self) -> Vec<Option<IpNet>> {
        match &self.wanted.dns {
            DnsCapture::Off => Vec::new(),
            DnsCapture::All => vec![None],
            DnsCapture::Servers(servers) => {
                let servers: Vec<_> = servers.iter().copied().map(single).collect();
                self.of_family(&servers).map(Some).collect()
            }
        }
    }

    fn of_family<'a>(&self, ranges: &'a [IpNet]) -> impl Iterator<Item = IpNet> + use<'a> {
        let family = self.family;
        ranges.iter().copied().filter(move |range| family.has(range))
    }
}

fn single(address: IpAddr) -> IpNet {
    IpNet::from(address)
}

#[cfg(test)]
mod tests;
