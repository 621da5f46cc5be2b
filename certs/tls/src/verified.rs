//! Certificate chains that were found good a moment ago.
//!
//! A workload's peers are few and come back often; checking the signatures of the same chain for
//! each connection is the largest part of a full handshake. What is remembered belongs to one
//! policy, so a change of roots, names or revocation lists begins with an empty memory.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{Context, SHA256};
use parking_lot::RwLock;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use weft_spiffe::CertificateDetails;

use crate::peer::PeerCertificate;
use crate::validation::PeerRole;

/// How long a chain is believed without another look, unless a certificate of it expires before.
const BELIEVED: Duration = Duration::from_secs(60);
/// Chains that are remembered at a time.
const CAPACITY: usize = 1024;

/// The memory of one policy.
#[derive(Debug, Default)]
pub(crate) struct Verified {
    chains: RwLock<HashMap<[u8; 32], Entry>>,
}

#[derive(Debug)]
struct Entry {
    until: UnixTime,
    peer: Arc<PeerCertificate>,
}

impl Verified {
    /// The peer that showed this chain and was found good.
    pub(crate) fn find(&self, key: &[u8; 32], now: UnixTime) -> Option<Arc<PeerCertificate>> {
        let chains = self.chains.read();
        let entry = chains.get(key)?;
        (now.as_secs() < entry.until.as_secs()).then(|| Arc::clone(&entry.peer))
    }

    /// Remembers a chain that was found good just now.
    pub(crate) fn remember(&self, key: [u8; 32], peer: &Arc<PeerCertificate>, now: UnixTime) {
        let Some(until) = until(peer.chain(), now) else { return };
        let mut chains = self.chains.write();
        if chains.len() >= CAPACITY {
            chains.retain(|_, entry| now.as_secs() < entry.until.as_secs());
        }
        if chains.len() < CAPACITY {
            chains.insert(key, Entry { until, peer: Arc::clone(peer) });
        }
    }
}

/// What a chain is found by: all that its verdict depends on besides policy and time.
pub(crate) fn key(
    (leaf, intermediates): (&CertificateDer<'_>, &[CertificateDer<'_>]),
    server_name: Option<&ServerName<'_>>,
    role: PeerRole,
) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    context.update(&[match role {
        PeerRole::Client => 0,
        PeerRole::Server => 1,
    }]);
    let name = server_name.map(ServerName::to_str).unwrap_or_default();
    let mut part = |bytes: &[u8]| {
        context.update(&(bytes.len() as u64).to_be_bytes());
        context.update(bytes);
    };
    part(name.as_bytes());
    part(leaf);
    for certificate in intermediates {
        part(certificate);
    }
    let mut key = [0; 32];
    key.copy_from_slice(context.finish().as_ref());
    key
}

/// Until when a chain can be believed; `None` when a certificate of it can't be read.
fn until(chain: &[CertificateDer<'_>], now: UnixTime) -> Option<UnixTime> {
    let now = UNIX_EPOCH + Duration::from_secs(now.as_secs());
    let mut until: SystemTime = now + BELIEVED;
    for certificate in chain {
        until = until.min(CertificateDetails::from_der(certificate).ok()?.not_after);
    }
    Some(UnixTime::since_unix_epoch(until.duration_since(UNIX_EPOCH).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{Authority, Leaf};

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    #[test]
    fn chain_is_believed_for_a_minute_but_not_beyond_its_expiry() {
        let authority = Authority::new("root");
        let chain = authority.issue(&Leaf::uri("spiffe://td/ns/a/sa/b"));
        let peer = Arc::new(PeerCertificate::new(chain.certificates().to_vec()).unwrap());
        let expiry = chain.leaf().not_after.duration_since(UNIX_EPOCH).unwrap().as_secs();
        let verified = Verified::default();
        let early = at(expiry - 1000);
        verified.remember([1; 32], &peer, early);
        assert!(verified.find(&[1; 32], at(expiry - 941)).is_some());
        assert!(verified.find(&[1; 32], at(expiry - 940)).is_none());
        assert!(verified.find(&[2; 32], early).is_none());
        verified.remember([1; 32], &peer, at(expiry - 10));
        assert!(verified.find(&[1; 32], at(expiry - 1)).is_some());
        assert!(verified.find(&[1; 32], at(expiry)).is_none());
    }

    #[test]
    fn memory_is_bounded_and_room_is_made_of_what_is_old() {
        let authority = Authority::new("root");
        let chain = authority.issue(&Leaf::uri("spiffe://td/ns/a/sa/b"));
        let peer = Arc::new(PeerCertificate::new(chain.certificates().to_vec()).unwrap());
        let verified = Verified::default();
        let key = |number: usize| {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&number.to_be_bytes());
            key
        };
        let now = UnixTime::now();
        for number in 0..CAPACITY + 5 {
            verified.remember(key(number), &peer, now);
        }
        assert_eq!(verified.chains.read().len(), CAPACITY);
        assert!(verified.find(&key(CAPACITY), now).is_none());
        let later = at(now.as_secs() + 61);
        verified.remember(key(CAPACITY), &peer, later);
        assert_eq!(verified.chains.read().len(), 1);
    }

    #[test]
    fn key_depends_on_role_name_and_every_certificate() {
        let (a, b) = (CertificateDer::from(vec![1]), CertificateDer::from(vec![2]));
        let name = ServerName::try_from("host.test").unwrap();
        let both = std::slice::from_ref(&b);
        let keys = [
            key((&a, &[]), None, PeerRole::Client),
            key((&a, &[]), None, PeerRole::Server),
            key((&a, &[]), Some(&name), PeerRole::Server),
            key((&a, both), None, PeerRole::Client),
            key((&b, &[]), None, PeerRole::Client),
        ];
        let distinct: std::collections::HashSet<_> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len());
    }
}
