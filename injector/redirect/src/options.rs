//! Flags and environment, named as Istio's `istio-iptables` names them.

use std::str::FromStr;

use clap::Parser;
use ipnet::{IpNet, Ipv4Net};
use nix::unistd::{Group, User};

use crate::config::{
    DnsCapture, GroupSelection, Interception, InterfaceName, Mode, PolicyRoutes, PortSelection,
    RangeSelection,
};
use crate::error::Error;
use crate::firewall::Ipv6;
use crate::local;

/// Installs, shows or removes the rules that send a pod's traffic through its sidecar.
///
/// Every flag can be given in the environment too; the flag wins, and an empty
/// variable counts as absent.
#[derive(Debug, Clone, Default, Parser)]
#[command(name = "weft-init", version)]
pub struct Options {
    /// Port that outbound TCP goes to [env: ENVOY_PORT] [default: 15001]
    #[arg(short = 'p', long)]
    envoy_port: Option<String>,
    /// Port that inbound TCP goes to [env: INBOUND_CAPTURE_PORT] [default: 15006]
    #[arg(short = 'z', long)]
    inbound_capture_port: Option<String>,
    /// Port of mesh tunnels, never redirected [env: INBOUND_TUNNEL_PORT] [default: 15008]
    #[arg(short = 'e', long)]
    inbound_tunnel_port: Option<String>,
    /// Users whose traffic is the proxy's own [env: PROXY_UID] [default: the user named by ENVOY_USER, or 1337]
    #[arg(short = 'u', long)]
    proxy_uid: Option<String>,
    /// Groups whose traffic is the proxy's own [env: PROXY_GID] [default: as --proxy-uid]
    #[arg(short = 'g', long)]
    proxy_gid: Option<String>,
    /// REDIRECT or TPROXY [env: ISTIO_INBOUND_INTERCEPTION_MODE] [default: REDIRECT]
    #[arg(short = 'm', long)]
    istio_inbound_interception_mode: Option<String>,
    /// With TPROXY: the mark of inbound packets [env: INBOUND_TPROXY_MARK] [default: 1337]
    #[arg(short = 't', long)]
    inbound_tproxy_mark: Option<String>,
    /// With TPROXY: the routing table for them [env: INBOUND_TPROXY_ROUTE_TABLE] [default: 133]
    #[arg(short = 'r', long)]
    inbound_tproxy_route_table: Option<String>,
    /// Inbound ports that are redirected, or * [env: ISTIO_INBOUND_PORTS] [default: *]
    #[arg(short = 'b', long)]
    istio_inbound_ports: Option<String>,
    /// Inbound ports left alone when all are redirected [env: ISTIO_LOCAL_EXCLUDE_PORTS] [default: 15090,15021,15020]
    #[arg(short = 'd', long)]
    istio_local_exclude_ports: Option<String>,
    /// Outbound ranges that are redirected, or * [env: ISTIO_SERVICE_CIDR] [default: *]
    #[arg(short = 'i', long)]
    istio_service_cidr: Option<String>,
    /// Outbound ranges left alone [env: ISTIO_SERVICE_EXCLUDE_CIDR]
    #[arg(short = 'x', long)]
    istio_service_exclude_cidr: Option<String>,
    /// Outbound ports that are redirected whatever the range [env: ISTIO_OUTBOUND_PORTS]
    #[arg(short = 'q', long)]
    istio_outbound_ports: Option<String>,
    /// Outbound ports left alone [env: ISTIO_LOCAL_OUTBOUND_PORTS_EXCLUDE]
    #[arg(short = 'o', long)]
    istio_local_outbound_ports_exclude: Option<String>,
    /// Interfaces left alone [env: ISTIO_EXCLUDE_INTERFACES]
    #[arg(short = 'c', long)]
    istio_exclude_interfaces: Option<String>,
    /// Interfaces of virtual machines, whose traffic counts as outbound [env: KUBE_VIRT_INTERFACES]
    #[arg(short = 'k', long)]
    kube_virt_interfaces: Option<String>,
    /// Send DNS to the proxy's port 15053 [env: ISTIO_META_DNS_CAPTURE=true]
    #[arg(long)]
    redirect_dns: bool,
    /// With --redirect-dns: whatever the name server [env: CAPTURE_ALL_DNS=true]
    #[arg(long)]
    capture_all_dns: bool,
    /// Drop packets that belong to no known connection [env: INVALID_DROP=true]
    #[arg(long)]
    drop_invalid: bool,
    /// Intercept IPv6 also without a global IPv6 address [env: ISTIO_AGENT_DUAL_STACK=true]
    #[arg(long)]
    dual_stack: bool,
    /// Intercept IPv6: auto, on, off [env: WEFT_IPV6] [default: auto: on with a global IPv6 address]
    #[arg(long)]
    ipv6: Option<String>,
    /// Print the rules and change nothing [env: DRY_RUN=true]
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Remove all interception rules
    #[arg(long, alias = "cleanup-only", conflicts_with = "dry_run")]
    pub cleanup: bool,
}

/// A flag or variable with a value that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// The value does not fit.
    #[error("--{flag} ({variable}): `{value}` {reason}")]
    Value {
        /// The flag's long name.
        flag: &'static str,
        /// The variable that can be used instead.
        variable: String,
        /// The refused part of the value.
        value: String,
        /// What is wrong with it, and what fits.
        reason: String,
    },
    /// The two group variables exclude each other.
    #[error(
        "ISTIO_OUTBOUND_OWNER_GROUPS and ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE are both set: remove one"
    )]
    BothGroupLists,
    /// The machine's own files could not be read.
    #[error(transparent)]
    Local(#[from] Error),
}

type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Options {
    /// The interception that flags and environment ask for.
    ///
    /// # Errors
    ///
    /// [`OptionsError`] with the flag, the variable and the refused value.
    pub fn interception(&self, environment: Environment<'_>) -> Result<Interception, OptionsError> {
        let defaults = Interception::default();
        let given = |flag, value: &Option<String>| Given::new(flag, value.as_deref(), environment);
        let proxy_uids = match given("proxy-uid", &self.proxy_uid).list(number)? {
            Some(uids) => uids,
            None => default_users(environment).unwrap_or(defaults.proxy_uids),
        };
        let ports = |flag, value| given(flag, value).list(port).map(Option::unwrap_or_default);
        let interfaces =
            |flag, value| given(flag, value).list(interface).map(Option::unwrap_or_default);
        let port_or =
            |flag, value, default| given(flag, value).one(port).map(|port| port.unwrap_or(default));
        Ok(Interception {
            outbound_port: port_or("envoy-port", &self.envoy_port, defaults.outbound_port)?,
            inbound_port: port_or(
                "inbound-capture-port",
                &self.inbound_capture_port,
                defaults.inbound_port,
            )?,
            tunnel_port: port_or(
                "inbound-tunnel-port",
                &self.inbound_tunnel_port,
                defaults.tunnel_port,
            )?,
            proxy_gids: given("proxy-gid", &self.proxy_gid)
                .list(number)?
                .unwrap_or_else(|| proxy_uids.clone()),
            proxy_uids,
            inbound: self.inbound(environment)?,
            outbound: self.outbound(environment)?,
            outbound_excluded: self.outbound_excluded(environment)?,
            outbound_ports: ports("istio-outbound-ports", &self.istio_outbound_ports)?,
            outbound_ports_excluded: ports(
                "istio-local-outbound-ports-exclude",
                &self.istio_local_outbound_ports_exclude,
            )?,
            interfaces_excluded: interfaces(
                "istio-exclude-interfaces",
                &self.istio_exclude_interfaces,
            )?,
            virtual_interfaces: interfaces("kube-virt-interfaces", &self.kube_virt_interfaces)?,
            groups: groups(environment)?,
            loopback_v4: Given::variable("ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR", environment)
                .one(ipv4_range)?
                .unwrap_or(defaults.loopback_v4),
            dns: self.dns(environment)?,
            drop_invalid: self.drop_invalid || is_true(environment, "INVALID_DROP"),
            mode: self.mode(environment)?,
        })
    }

    /// The routes that TPROXY needs, whether or not it is the mode.
    ///
    /// # Errors
    ///
    /// [`OptionsError`] when the mark or the table is no number, or zero.
    pub fn routes(&self, environment: Environment<'_>) -> Result<PolicyRoutes, OptionsError> {
        let usual = PolicyRoutes::default();
        let positive = |flag, value: &Option<String>| {
            Given::new(flag, value.as_deref(), environment).one(|text| match number(text)? {
                0 => Err("has to be more than zero".to_owned()),
                number => Ok(number),
            })
        };
        let mark = positive("inbound-tproxy-mark", &self.inbound_tproxy_mark)?;
        let table = positive("inbound-tproxy-route-table", &self.inbound_tproxy_route_table)?;
        Ok(PolicyRoutes { mark: mark.unwrap_or(usual.mark), table: table.unwrap_or(usual.table) })
    }

    fn mode(&self, environment: Environment<'_>) -> Result<Mode, OptionsError> {
        let value = self.istio_inbound_interception_mode.as_deref();
        let given = Given::new("istio-inbound-interception-mode", value, environment);
        let transparent = given.one(|mode| match mode {
            "" | "REDIRECT" => Ok(false),
            "TPROXY" => Ok(true),
            _ => Err("is no interception mode: use REDIRECT or TPROXY".to_owned()),
        })?;
        // Also looked at where they have no effect: a cleanup uses them.
        let routes = self.routes(environment)?;
        Ok(if transparent == Some(true) { Mode::Transparent(routes) } else { Mode::Redirect })
    }

    /// Whether IPv6 is intercepted.
    ///
    /// # Errors
    ///
    /// [`OptionsError`] when the value is none of auto, on and off.
    pub fn ipv6(&self, environment: Environment<'_>) -> Result<Ipv6, OptionsError> {
        let given = Given {
            flag: "ipv6",
            variable: "WEFT_IPV6".to_owned(),
            value: self
                .ipv6
                .clone()
                .or_else(|| environment("WEFT_IPV6").filter(|value| !value.is_empty())),
        };
        let chosen = given.one(|value| match value {
            "auto" => Ok(Ipv6::Auto),
            "on" => Ok(Ipv6::On),
            "off" => Ok(Ipv6::Off),
            _ => Err("is none of auto, on and off".to_owned()),
        })?;
        let dual_stack = self.dual_stack || is_true(environment, "ISTIO_AGENT_DUAL_STACK");
        Ok(chosen.unwrap_or(if dual_stack { Ipv6::On } else { Ipv6::Auto }))
    }

    /// Whether the rules are to be printed instead of applied.
    #[must_use]
    pub fn is_dry_run(&self, environment: Environment<'_>) -> bool {
        self.dry_run || is_true(environment, "DRY_RUN")
    }

    fn inbound(&self, environment: Environment<'_>) -> Result<PortSelection, OptionsError> {
        let value = self.istio_inbound_ports.as_deref();
        let ports = Given::new("istio-inbound-ports", value, environment);
        let value = self.istio_local_exclude_ports.as_deref();
        let excluded = Given::new("istio-local-exclude-ports", value, environment).list(port)?;
        if ports.is_all() {
            let PortSelection::AllExcept(defaults) = Interception::default().inbound else {
                return Ok(PortSelection::AllExcept(excluded.unwrap_or_default()));
            };
            return Ok(PortSelection::AllExcept(excluded.unwrap_or(defaults)));
        }
        let ports = ports.list(port)?.unwrap_or_default();
        Ok(if ports.is_empty() { PortSelection::None } else { PortSelection::Only(ports) })
    }

    fn outbound(&self, environment: Environment<'_>) -> Result<RangeSelection, OptionsError> {
        let value = self.istio_service_cidr.as_deref();
        let ranges = Given::new("istio-service-cidr", value, environment);
        if ranges.is_all() {
            return Ok(RangeSelection::All);
        }
        Ok(RangeSelection::Only(ranges.list(range)?.unwrap_or_default()))
    }

    fn outbound_excluded(&self, environment: Environment<'_>) -> Result<Vec<IpNet>, OptionsError> {
        let value = self.istio_service_exclude_cidr.as_deref();
        let given = Given::new("istio-service-exclude-cidr", value, environment);
        Ok(given.list(range)?.unwrap_or_default())
    }

    fn dns(&self, environment: Environment<'_>) -> Result<DnsCapture, OptionsError> {
        if !(self.redirect_dns || is_true(environment, "ISTIO_META_DNS_CAPTURE")) {
            return Ok(DnsCapture::Off);
        }
        if self.capture_all_dns || is_true(environment, "CAPTURE_ALL_DNS") {
            return Ok(DnsCapture::All);
        }
        Ok(DnsCapture::Servers(local::name_servers()?))
    }
}

/// A value and where it came from, for the error.
struct Given {
    flag: &'static str,
    variable: String,
    value: Option<String>,
}

impl Given {
    fn new(flag: &'static str, value: Option<&str>, environment: Environment<'_>) -> Self {
        let variable = flag.to_uppercase().replace('-', "_");
        let inherited = || environment(&variable).filter(|value| !value.is_empty());
        Self { value: value.map(str::to_owned).or_else(inherited), flag, variable }
    }

    fn variable(name: &'static str, environment: Environment<'_>) -> Self {
        Self {
            flag: "no flag",
            variable: name.to_owned(),
            value: environment(name).filter(|value| !value.is_empty()),
        }
    }

    /// Absent counts as all: interception is what the program is for.
    fn is_all(&self) -> bool {
        self.value.as_deref().is_none_or(|value| value.trim() == "*")
    }

    fn one<T>(&self, parse: impl Fn(&str) -> Result<T, String>) -> Result<Option<T>, OptionsError> {
        let Some(value) = &self.value else {
            return Ok(None);
        };
        parse(value.trim()).map(Some).map_err(|reason| self.error(value, reason))
    }

    fn list<T>(
        &self,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<Vec<T>>, OptionsError> {
        let Some(value) = &self.value else {
            return Ok(None);
        };
        let items = value.split(',').map(str::trim).filter(|item| !item.is_empty());
        items
            .map(|item| parse(item).map_err(|reason| self.error(item, reason)))
            .collect::<Result<_, _>>()
            .map(Some)
    }

    fn error(&self, value: &str, reason: String) -> OptionsError {
        OptionsError::Value {
            flag: self.flag,
            variable: self.variable.clone(),
            value: value.to_owned(),
            reason,
        }
    }
}

fn groups(environment: Environment<'_>) -> Result<GroupSelection, OptionsError> {
    let included = Given::variable("ISTIO_OUTBOUND_OWNER_GROUPS", environment);
    let excluded =
        Given::variable("ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE", environment).list(group)?;
    match (included.is_all(), excluded.unwrap_or_default()) {
        (true, excluded) if excluded.is_empty() => Ok(GroupSelection::All),
        (true, excluded) => Ok(GroupSelection::Except(excluded)),
        (false, excluded) if excluded.is_empty() => {
            let groups = included.list(group)?.unwrap_or_default();
            Ok(GroupSelection::Only(groups))
        }
        (false, _) => Err(OptionsError::BothGroupLists),
    }
}

fn default_users(environment: Environment<'_>) -> Option<Vec<u32>> {
    let name = environment("ENVOY_USER").filter(|name| !name.is_empty())?;
    let user = User::from_name(&name).ok().flatten()?;
    Some(vec![user.uid.as_raw()])
}

fn is_true(environment: Environment<'_>, variable: &str) -> bool {
    environment(variable).is_some_and(|value| matches!(value.as_str(), "true" | "1"))
}

fn port(text: &str) -> Result<u16, String> {
    match u16::from_str(text) {
        Ok(port) if port > 0 => Ok(port),
        _ => Err("is not a port (1 to 65535)".to_owned()),
    }
}

fn number(text: &str) -> Result<u32, String> {
    u32::from_str(text).map_err(|_| "is not a numeric id".to_owned())
}

fn range(text: &str) -> Result<IpNet, String> {
    let address = |text: &str| text.parse::<std::net::IpAddr>().map(IpNet::from);
    text.parse::<IpNet>()
        .map(|range| range.trunc())
        .or_else(|_| address(text))
        .map_err(|_| "is not a range (for example 10.0.0.0/8 or fd00::/8)".to_owned())
}

fn ipv4_range(text: &str) -> Result<Ipv4Net, String> {
    match range(text)? {
        IpNet::V4(range) => Ok(range),
        IpNet::V6(_) => Err("is not an IPv4 range".to_owned()),
    }
}

fn interface(text: &str) -> Result<InterfaceName, String> {
    text.parse().map_err(|reason| format!("does not fit: {reason}"))
}

fn group(text: &str) -> Result<u32, String> {
    if let Ok(gid) = text.parse() {
        return Ok(gid);
    }
    match Group::from_name(text) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        _ => Err("is neither a numeric id nor a group of this system".to_owned()),
    }
}

#[cfg(test)]
mod tests;
