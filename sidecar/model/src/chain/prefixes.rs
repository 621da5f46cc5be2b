//! What belongs to ranges of addresses; the longest range that an address lies in decides.

use std::net::IpAddr;

use ipnet::IpNet;

/// Values by range, the longest first; the last may be for all addresses.
#[derive(Debug)]
pub(super) struct Prefixes<T>(Vec<(Option<IpNet>, T)>);

impl<T> Default for Prefixes<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Default> Prefixes<T> {
    /// The value of a range, made where there is none yet; `None`: of all addresses.
    pub(super) fn entry(&mut self, net: Option<&IpNet>) -> &mut T {
        let net = net.map(IpNet::trunc);
        let at = self.0.iter().position(|(known, _)| *known == net).unwrap_or_else(|| {
            let at = self.0.partition_point(|(known, _)| length(known) > length(&net));
            self.0.insert(at, (net, T::default()));
            at
        });
        &mut self.0[at].1
    }
}

impl<T> Prefixes<T> {
    /// The value of the longest range that the address lies in.
    pub(super) fn find(&self, ip: IpAddr) -> Option<&T> {
        let fits = |net: &Option<IpNet>| net.is_none_or(|net| net.contains(&ip));
        self.0.iter().find(|(net, _)| fits(net)).map(|(_, value)| value)
    }
}

fn length(net: &Option<IpNet>) -> i16 {
    net.map_or(-1, |net| i16::from(net.prefix_len()))
}
