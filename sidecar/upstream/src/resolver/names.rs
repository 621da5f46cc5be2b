//! From a name to addresses.

use std::net::{IpAddr, SocketAddr};
use std::sync::OnceLock;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use weft_model::DnsFamily;

use super::NameServers;

/// What a name stands for at the moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// Sorted, without doubles.
    pub(super) addresses: Vec<IpAddr>,
    /// How long it stays true; `None` for what never changes.
    pub(super) ttl: Option<Duration>,
}

/// The resolvers: one for each preference of address families, made at the first use.
#[derive(Debug)]
pub(super) struct Names {
    servers: NameServers,
    resolvers: [OnceLock<TokioResolver>; 5],
}

impl Names {
    pub(super) fn new(servers: NameServers) -> Self {
        Self { servers, resolvers: Default::default() }
    }

    /// Asks for the addresses of a name; an address is its own answer.
    ///
    /// # Errors
    /// The system's configuration can't be read, no server answers, or the name has no address.
    pub(super) async fn addresses(
        &self,
        name: &str,
        family: DnsFamily,
    ) -> Result<Answer, NetError> {
        if let Ok(address) = name.parse() {
            return Ok(Answer { addresses: vec![address], ttl: None });
        }
        let lookup = self.resolver(family)?.lookup_ip(name).await?;
        let mut addresses: Vec<_> = lookup.iter().collect();
        addresses.sort_unstable();
        addresses.dedup();
        let ttl = lookup.as_lookup().answers().iter().map(|record| record.ttl).min();
        Ok(Answer { addresses, ttl: ttl.map(|ttl| Duration::from_secs(u64::from(ttl))) })
    }

    fn resolver(&self, family: DnsFamily) -> Result<&TokioResolver, NetError> {
        let (place, strategy) = match family {
            DnsFamily::Auto => (0, LookupIpStrategy::Ipv6thenIpv4),
            DnsFamily::V4Only => (1, LookupIpStrategy::Ipv4Only),
            DnsFamily::V6Only => (2, LookupIpStrategy::Ipv6Only),
            DnsFamily::V4Preferred => (3, LookupIpStrategy::Ipv4thenIpv6),
            DnsFamily::All => (4, LookupIpStrategy::Ipv4AndIpv6),
        };
        let slot = &self.resolvers[place];
        if let Some(resolver) = slot.get() {
            return Ok(resolver);
        }
        let made = self.make(strategy)?;
        Ok(slot.get_or_init(|| made))
    }

    fn make(&self, strategy: LookupIpStrategy) -> Result<TokioResolver, NetError> {
        let mut builder = match &self.servers {
            NameServers::System => TokioResolver::builder_tokio()?,
            NameServers::Fixed(servers) => {
                let servers = servers.iter().map(name_server).collect();
                let config = ResolverConfig::from_name_servers(servers);
                TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            }
        };
        let options = builder.options_mut();
        options.ip_strategy = strategy;
        // The cluster says how often to ask.
        options.cache_size = 0;
        builder.build()
    }
}

fn name_server(address: &SocketAddr) -> NameServerConfig {
    let mut udp = ConnectionConfig::udp();
    let mut tcp = ConnectionConfig::tcp();
    udp.port = address.port();
    tcp.port = address.port();
    NameServerConfig::new(address.ip(), true, vec![udp, tcp])
}
