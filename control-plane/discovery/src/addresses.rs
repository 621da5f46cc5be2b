//! Virtual addresses: where the mesh's hosts are reached before a proxy takes over.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use xxhash_rust::xxh64::xxh64;

/// 240.240.0.0, of a range that nothing else uses; Istio takes the same.
const NETWORK: u32 = 0xF0F0_0000;
/// 240.240.0.1 to 240.240.255.254.
const SIZE: u64 = 65_534;

/// All virtual addresses are given out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{host} gets no virtual address: all {SIZE} of 240.240.0.0/16 are taken")]
pub struct AddressError {
    /// The host that got none.
    pub host: String,
}

/// The virtual address of each host. Once given, it stays the host's.
///
/// A host's address follows from its name unless another has it already, so that control planes
/// that share nothing yet mostly agree.
#[derive(Debug, Default)]
pub struct AddressBook {
    by_host: Arc<BTreeMap<String, IpAddr>>,
    taken: BTreeSet<IpAddr>,
}

impl AddressBook {
    /// The addresses that are given; another pointer after each that is new.
    pub fn addresses(&self) -> &Arc<BTreeMap<String, IpAddr>> {
        &self.by_host
    }

    /// Takes up an address that was given before; the first of two for one host or address wins.
    pub fn restore(&mut self, host: String, address: IpAddr) {
        if !self.by_host.contains_key(&host) && self.taken.insert(address) {
            Arc::make_mut(&mut self.by_host).insert(host, address);
        }
    }

    /// Takes over the address that another control plane gave a host, unless another host has it here.
    pub fn adopt(&mut self, host: &str, address: IpAddr) {
        if self.taken.contains(&address) {
            return;
        }
        if let Some(before) = Arc::make_mut(&mut self.by_host).insert(host.to_owned(), address) {
            self.taken.remove(&before);
        }
        self.taken.insert(address);
    }

    /// The address of `host`, and whether it is new.
    ///
    /// # Errors
    /// There is none left.
    pub fn assign(&mut self, host: &str) -> Result<(IpAddr, bool), AddressError> {
        if let Some(&known) = self.by_host.get(host) {
            return Ok((known, false));
        }
        let start = xxh64(host.as_bytes(), 0) % SIZE;
        let mut candidates = (0..SIZE).map(|step| address((start + step) % SIZE));
        let free = candidates.find(|address| !self.taken.contains(address));
        let address = free.ok_or_else(|| AddressError { host: host.to_owned() })?;
        self.taken.insert(address);
        Arc::make_mut(&mut self.by_host).insert(host.to_owned(), address);
        Ok((address, true))
    }
}

fn address(index: u64) -> IpAddr {
    #[expect(clippy::cast_possible_truncation, reason = "below 65,536")]
    let offset = index as u32 + 1;
    Ipv4Addr::from(NETWORK + offset).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_stable_and_no_one_else_s() {
        let mut book = AddressBook::default();
        let (first, new) = book.assign("a.demo").expect("an address");
        assert!(new);
        let mut all = BTreeSet::from([first]);
        for number in 0..2000 {
            all.insert(book.assign(&format!("host-{number}")).expect("an address").0);
        }
        assert_eq!(all.len(), 2001);
        assert_eq!(book.assign("a.demo"), Ok((first, false)));
        let mut other = AddressBook::default();
        assert_eq!(other.assign("a.demo"), Ok((first, true)));
    }

    #[test]
    fn a_restored_address_is_kept_and_not_given_again() {
        let mut book = AddressBook::default();
        let natural = AddressBook::default().assign("a").expect("an address").0;
        book.restore("b".to_owned(), natural);
        assert_eq!(book.assign("b"), Ok((natural, false)));
        let other = book.assign("a").expect("an address").0;
        assert_ne!(other, natural);
        let given = "240.240.9.9".parse().expect("an address");
        book.adopt("a", given);
        book.adopt("b", given);
        assert_eq!(
            (book.assign("a"), book.assign("b")),
            (Ok((given, false)), Ok((natural, false)))
        );
        book.restore("c".to_owned(), other);
        assert_eq!(book.assign("c"), Ok((other, false)), "given back");
    }
}
