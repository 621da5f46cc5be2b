//! The switch and the hosts on it.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use nix::ifaddrs::getifaddrs;

use crate::ip::{batch, ip};
use crate::leftovers::{namespace_name, remove, remove_dead};
use crate::{Capture, Error, Host};

/// The first host's number; 1 is the bridge, 2 is for the machine itself.
const FIRST_HOST: u8 = 11;
const UPLINK: u8 = 2;

/// Hosts joined by a bridge. Dropping it removes all of it.
#[derive(Debug)]
pub struct Network {
    prefix: String,
    serial: u32,
    subnet: Subnet,
    switch: Host,
    hosts: Mutex<Hosts>,
}

#[derive(Debug, Default)]
struct Hosts {
    named: Vec<Host>,
    /// The namespaces of nodes.
    nodes: Vec<Host>,
    /// How many hosts were made: what the kernel still takes away is not given out again at once.
    made: usize,
    uplink: Option<Uplink>,
    closed: bool,
}

/// The machine's own place on the bridge.
#[derive(Debug, Clone)]
pub struct Uplink {
    interface: String,
    ipv4: Ipv4Addr,
}

/// A machine on which hosts run.
#[derive(Debug, Clone)]
pub struct Node {
    bridge: Host,
}

impl Node {
    /// The namespace with the node's bridge.
    #[must_use]
    pub fn bridge(&self) -> &Host {
        &self.bridge
    }
}

impl Hosts {
    fn ensure_free(&self, name: &str) -> Result<(), Error> {
        let mut all = self.named.iter().chain(&self.nodes);
        if name == "switch" || all.any(|host| host.name == name) {
            return Err(Error::Duplicate { name: name.to_owned() });
        }
        Ok(())
    }
}

impl Uplink {
    /// The machine's address on the bridge.
    #[must_use]
    pub fn ipv4(&self) -> Ipv4Addr {
        self.ipv4
    }
}

impl Network {
    /// Makes an empty network, after removing what dead runs of this prefix left.
    ///
    /// # Errors
    ///
    /// When `ip` is missing or refuses, for want of privilege for example.
    pub fn create(prefix: &str) -> Result<Self, Error> {
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        check_name(prefix)?;
        remove_dead(prefix)?;
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let subnet = Subnet::choose(std::process::id(), serial);
        let switch = Host {
            name: "switch".to_owned(),
            namespace: namespace_name(prefix, std::process::id(), serial, "switch"),
            ipv4: subnet.ipv4(1),
            ipv6: kernel_has_ipv6().then(|| subnet.ipv6(1)),
        };
        ip(&["netns", "add", &switch.namespace])?;
        let network =
            Self { prefix: prefix.to_owned(), serial, subnet, switch, hosts: Mutex::default() };
        batch(&network.switch.namespace, &network.switch_lines())?;
        Ok(network)
    }

    /// A bridge of its own, joined to the network's by a cable: a machine on which hosts run.
    ///
    /// # Errors
    ///
    /// When the name is unfit or taken, or `ip` refuses.
    pub fn node(&self, name: &str) -> Result<Node, Error> {
        check_name(name)?;
        let mut hosts = self.lock();
        hosts.ensure_free(name)?;
        let namespace = namespace_name(&self.prefix, std::process::id(), self.serial, name);
        let own = Host { name: name.to_owned(), namespace, ..self.switch.clone() };
        ip(&["netns", "add", &own.namespace])?;
        hosts.nodes.push(own.clone());
        let (number, switch) = (hosts.nodes.len(), &self.switch.namespace);
        let lines = format!(
            "link set lo up\n\
             link add bridge type bridge forward_delay 0 mcast_snooping 0\n\
             link add uplink type veth peer name node{number} netns {switch}\n\
             link set uplink master bridge up\n\
             link set bridge up\n"
        );
        batch(&own.namespace, &lines)?;
        batch(switch, &format!("link set node{number} master bridge up\n"))?;
        Ok(Node { bridge: own })
    }

    /// Plugs a new host into the bridge.
    ///
    /// It has a loopback with `::6/128` (the source of what a sidecar sends to
    /// its own application), `eth0` with an IPv4 and an IPv6 address, and the
    /// bridge as its default route.
    ///
    /// # Errors
    ///
    /// When the name is unfit or taken, the subnet is full, or `ip` refuses.
    pub fn host(&self, name: &str) -> Result<Host, Error> {
        self.plug(&self.switch, name)
    }

    /// The same on a node's bridge.
    ///
    /// # Errors
    ///
    /// As [`Network::host`].
    pub fn host_on(&self, node: &Node, name: &str) -> Result<Host, Error> {
        self.plug(&node.bridge, name)
    }

    /// Ends what runs in a host's namespace, and removes it; its name and addresses are free again.
    ///
    /// # Errors
    ///
    /// When `ip` refuses.
    pub fn remove(&self, host: &Host) -> Result<(), Error> {
        remove(&host.namespace)?;
        self.lock().named.retain(|known| known.namespace != host.namespace);
        Ok(())
    }

    fn plug(&self, bridge: &Host, name: &str) -> Result<Host, Error> {
        check_name(name)?;
        let mut hosts = self.lock();
        hosts.ensure_free(name)?;
        let taken =
            |number: u8| hosts.named.iter().any(|host| host.ipv4 == self.subnet.ipv4(number));
        let count = usize::from(u8::MAX - FIRST_HOST);
        let number = (FIRST_HOST..u8::MAX)
            .cycle()
            .skip(hosts.made % count)
            .take(count)
            .find(|&number| !taken(number))
            .ok_or_else(|| Error::Full { subnet: format!("{}/24", self.subnet.ipv4(0)) })?;
        let host = Host {
            name: name.to_owned(),
            namespace: namespace_name(&self.prefix, std::process::id(), self.serial, name),
            ipv4: self.subnet.ipv4(number),
            ipv6: self.switch.ipv6.map(|_| self.subnet.ipv6(number)),
        };
        ip(&["netns", "add", &host.namespace])?;
        hosts.named.push(host.clone());
        hosts.made += 1;
        batch(&host.namespace, &self.host_lines(&host, bridge, number))?;
        batch(&bridge.namespace, &format!("link set port{number} master bridge up\n"))?;
        Ok(host)
    }

    /// Gives the namespace this process runs in a place on the bridge, so that
    /// the hosts can be reached from outside.
    ///
    /// # Errors
    ///
    /// When `ip` refuses.
    pub fn uplink(&self) -> Result<Uplink, Error> {
        let mut hosts = self.lock();
        if let Some(uplink) = &hosts.uplink {
            return Ok(uplink.clone());
        }
        let uplink = Uplink {
            interface: format!("wf{}.{}", std::process::id(), self.serial),
            ipv4: self.subnet.ipv4(UPLINK),
        };
        let Uplink { interface, ipv4 } = &uplink;
        let switch = &self.switch.namespace;
        ip(&["link", "add", interface, "type", "veth", "peer", "name", "uplink", "netns", switch])?;
        hosts.uplink = Some(uplink.clone());
        ip(&["addr", "add", &format!("{ipv4}/24"), "dev", interface])?;
        ip(&["link", "set", interface, "up"])?;
        batch(switch, "link set uplink master bridge up\n")?;
        Ok(uplink)
    }

    /// The namespace with the bridge, through which all traffic between hosts passes.
    #[must_use]
    pub fn switch(&self) -> &Host {
        &self.switch
    }

    /// Starts to record the TCP segments that cross the bridge.
    ///
    /// # Errors
    ///
    /// When the raw socket can't be made.
    pub fn capture(&self) -> Result<Capture, Error> {
        Capture::start(&self.switch)
    }

    /// Ends what runs in the namespaces and removes them.
    ///
    /// # Errors
    ///
    /// The first failure; the rest is removed nevertheless.
    pub fn close(self) -> Result<(), Error> {
        self.remove_all()
    }

    fn remove_all(&self) -> Result<(), Error> {
        let mut hosts = self.lock();
        if std::mem::replace(&mut hosts.closed, true) {
            return Ok(());
        }
        let mut result = Ok(());
        if let Some(uplink) = hosts.uplink.take() {
            result = ip(&["link", "del", &uplink.interface]).map(drop);
        }
        for host in hosts.named.iter().chain(&hosts.nodes).chain([&self.switch]) {
            result = result.and(remove(&host.namespace));
        }
        result
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Hosts> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn switch_lines(&self) -> String {
        let mut lines = format!(
            "link set lo up\n\
             link add bridge type bridge forward_delay 0 mcast_snooping 0\n\
             addr add {}/24 dev bridge\n",
            self.switch.ipv4
        );
        if let Some(address) = self.switch.ipv6 {
            lines.push_str(&format!("addr add {address}/64 dev bridge nodad\n"));
        }
        lines.push_str("link set bridge up\n");
        lines
    }

    fn host_lines(&self, host: &Host, bridge: &Host, number: u8) -> String {
        let bridge = &bridge.namespace;
        let mut lines = format!(
            "link set lo up\n\
             link add eth0 type veth peer name port{number} netns {bridge}\n\
             addr add {}/24 dev eth0\n",
            host.ipv4
        );
        if let Some(address) = host.ipv6 {
            lines.push_str(&format!(
                "addr add {address}/64 dev eth0 nodad\naddr add ::6/128 dev lo nodad\n"
            ));
        }
        lines.push_str(&format!("link set eth0 up\nroute add default via {}\n", self.switch.ipv4));
        if let Some(bridge) = self.switch.ipv6 {
            lines.push_str(&format!("route add default via {bridge}\n"));
        }
        lines
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // Nobody is left to tell; `close` is there for those who want to know.
        let _ = self.remove_all();
    }
}

/// A /24 of 10.64.0.0/10 and a /64 of its own for each network.
#[derive(Debug, Clone, Copy)]
struct Subnet {
    number: u16,
}

impl Subnet {
    /// Spreads the networks of different processes and skips what this machine uses.
    fn choose(process: u32, serial: u32) -> Self {
        let taken: Vec<Ipv4Addr> = getifaddrs()
            .map(|list| {
                list.filter_map(|interface| Some(interface.address?.as_sockaddr_in()?.ip()))
                    .collect()
            })
            .unwrap_or_default();
        let first = process.wrapping_mul(61).wrapping_add(serial);
        let candidates = (0..0x4000).map(|step| Self {
            number: u16::try_from(first.wrapping_add(step) % 0x4000).unwrap_or_default(),
        });
        let free = |subnet: &Self| {
            let wanted = subnet.ipv4(0).octets();
            !taken.iter().any(|address| address.octets()[..3] == wanted[..3])
        };
        candidates.clone().find(free).unwrap_or(Self { number: 0 })
    }

    fn ipv4(self, host: u8) -> Ipv4Addr {
        let [high, low] = self.number.to_be_bytes();
        Ipv4Addr::new(10, 64 + high, low, host)
    }

    fn ipv6(self, host: u8) -> Ipv6Addr {
        Ipv6Addr::new(0xfd77, 0xef7, self.number, 0, 0, 0, 0, u16::from(host))
    }
}

fn kernel_has_ipv6() -> bool {
    Path::new("/proc/sys/net/ipv6").exists()
}

fn check_name(name: &str) -> Result<(), Error> {
    let fit = (1..=40).contains(&name.len())
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    if fit {
        return Ok(());
    }
    Err(Error::Name { name: name.to_owned() })
}
