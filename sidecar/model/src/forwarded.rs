//! ForwardedNames that requests bring: what a dynamic forward proxy knows of them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::DnsFamily;

/// `common.dynamic_forward_proxy.v3.DnsCacheConfig`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameSettings {
    /// `dns_lookup_family`
    pub family: DnsFamily,
    /// `dns_refresh_rate` (default 60 s): how long an answer without a TTL is true.
    pub refresh: Duration,
    /// `dns_min_refresh_rate` (default 5 s): no answer is asked for again earlier.
    pub least_refresh: Duration,
    /// `host_ttl` (default 5 min): a name that nobody asks for is forgotten after it.
    pub unused: Duration,
    /// `max_hosts` (default 1024)
    pub most: usize,
    /// `dns_query_timeout` (default 5 s): how long a request waits for an answer.
    pub timeout: Duration,
}

/// What is known of names; requests ask, the resolver answers.
#[derive(Debug, Default)]
pub struct ForwardedNames {
    known: Mutex<HashMap<Arc<str>, Known>>,
    asked: Notify,
}

#[derive(Debug)]
struct Known {
    answer: watch::Sender<Option<NameAnswer>>,
    /// Whether the resolver has been told to ask.
    asked: bool,
    /// When the answer is to be asked for anew.
    until: Instant,
    used: Instant,
}

/// Addresses of a name; none: it can't be resolved.
pub type NameAnswer = Arc<[IpAddr]>;

/// Why a name has no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameFailure {
    /// It can't be resolved, or not in time.
    Unresolved,
    /// As many names as may be are known (`max_hosts`).
    Overflow,
}

impl ForwardedNames {
    /// The first address of a name. An answer whose time is over serves on while it is asked for
    /// anew.
    ///
    /// # Errors
    /// There is none, or none in time.
    pub async fn address(
        &self,
        name: &str,
        settings: &NameSettings,
    ) -> Result<IpAddr, NameFailure> {
        if let Ok(address) = name.trim_matches(['[', ']']).parse() {
            return Ok(address);
        }
        let mut waiting = self.ask(name, settings)?;
        let answered = waiting.wait_for(Option::is_some);
        let answer = match tokio::time::timeout(settings.timeout, answered).await {
            Ok(Ok(answer)) => answer.clone(),
            Ok(Err(_)) | Err(_) => None,
        };
        answer.and_then(|answer| answer.first().copied()).ok_or(NameFailure::Unresolved)
    }

    fn ask(
        &self,
        name: &str,
        settings: &NameSettings,
    ) -> Result<watch::Receiver<Option<NameAnswer>>, NameFailure> {
        let now = Instant::now();
        let mut all = self.known.lock();
        if let Some(known) = all.get_mut(name) {
            known.used = now;
            if !known.asked && known.until <= now {
                known.asked = true;
                // Who has no answer waits for the next one.
                known.answer.send_if_modified(|answer| match answer {
                    Some(addresses) if addresses.is_empty() => answer.take().is_some(),
                    _ => false,
                });
                self.asked.notify_one();
            }
            return Ok(known.answer.subscribe());
        }
        if all.len() >= settings.most {
            all.retain(|_, known| now.saturating_duration_since(known.used) < settings.unused);
        }
        if all.len() >= settings.most {
            return Err(NameFailure::Overflow);
        }
        let (answer, waiting) = watch::channel(None);
        all.insert(name.into(), Known { answer, asked: true, until: now, used: now });
        drop(all);
        self.asked.notify_one();
        Ok(waiting)
    }

    /// Waits until names are asked for.
    pub async fn asked(&self) {
        self.asked.notified().await;
    }

    /// The names to ask for; those that nobody has used for `unused` are forgotten.
    #[must_use]
    pub fn take_asked(&self, unused: Duration) -> Vec<Arc<str>> {
        let now = Instant::now();
        let mut all = self.known.lock();
        all.retain(|_, known| now.saturating_duration_since(known.used) < unused);
        let asked = all.iter_mut().filter(|(_, known)| known.asked).map(|(name, known)| {
            known.asked = false;
            // Nobody asks for it again before there is an answer.
            known.until = now + unused;
            Arc::clone(name)
        });
        asked.collect()
    }

    /// Gives an answer, which is true for so long. One that fails leaves an earlier one in place.
    pub fn answer(&self, name: &str, answer: Option<NameAnswer>, for_time: Duration) {
        let mut all = self.known.lock();
        let Some(known) = all.get_mut(name) else { return };
        known.until = Instant::now() + for_time;
        match answer {
            Some(answer) => drop(known.answer.send_replace(Some(answer))),
            None => {
                known.answer.send_if_modified(|before| {
                    let missing = before.is_none();
                    if missing {
                        *before = Some(Arc::default());
                    }
                    missing
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: NameSettings = NameSettings {
        family: DnsFamily::V4Only,
        refresh: Duration::from_secs(60),
        least_refresh: Duration::from_secs(5),
        unused: Duration::from_secs(300),
        most: 2,
        timeout: Duration::from_secs(5),
    };

    fn ip(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_is_asked_for_once_and_again_when_its_answer_is_old() {
        let names = ForwardedNames::default();
        assert_eq!(names.address("10.0.0.9", &SETTINGS).await, Ok(ip(9)), "it is its own answer");
        let resolver = async {
            names.asked().await;
            assert_eq!(names.take_asked(SETTINGS.unused), [Arc::from("a.test")]);
            names.answer("a.test", Some([ip(1)].into()), Duration::from_secs(10));
        };
        let (first, second, ()) = tokio::join!(
            names.address("a.test", &SETTINGS),
            names.address("a.test", &SETTINGS),
            resolver
        );
        assert_eq!((first, second), (Ok(ip(1)), Ok(ip(1))));
        assert!(names.take_asked(SETTINGS.unused).is_empty());
        tokio::time::advance(Duration::from_secs(11)).await;
        assert_eq!(names.address("a.test", &SETTINGS).await, Ok(ip(1)), "the old one serves on");
        assert_eq!(names.take_asked(SETTINGS.unused), [Arc::from("a.test")]);
        names.answer("a.test", None, Duration::from_secs(10));
        assert_eq!(names.address("a.test", &SETTINGS).await, Ok(ip(1)), "also when asking fails");
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_without_an_answer_fails_and_is_asked_for_anew() {
        let names = ForwardedNames::default();
        let failed = names.address("a.test", &SETTINGS).await;
        assert_eq!(failed, Err(NameFailure::Unresolved), "nobody answers in time");
        assert_eq!(names.take_asked(SETTINGS.unused), [Arc::from("a.test")]);
        names.answer("a.test", None, Duration::from_secs(5));
        assert_eq!(names.address("a.test", &SETTINGS).await, Err(NameFailure::Unresolved));
        assert!(names.take_asked(SETTINGS.unused).is_empty(), "not yet again");
        tokio::time::advance(Duration::from_secs(6)).await;
        let resolver = async {
            names.asked().await;
            let _ = names.take_asked(SETTINGS.unused);
            names.answer("a.test", Some([ip(2)].into()), Duration::from_secs(10));
        };
        let (found, ()) = tokio::join!(names.address("a.test", &SETTINGS), resolver);
        assert_eq!(found, Ok(ip(2)));
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_names_are_known_than_may_be() {
        let names = ForwardedNames::default();
        for name in ["a", "b"] {
            assert!(names.ask(name, &SETTINGS).is_ok());
        }
        assert_eq!(names.ask("c", &SETTINGS).err(), Some(NameFailure::Overflow));
        tokio::time::advance(SETTINGS.unused).await;
        assert!(names.ask("c", &SETTINGS).is_ok(), "the others are forgotten");
    }
}
