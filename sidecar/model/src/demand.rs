//! Where requests wait for what is fetched on demand.
//!
//! Only a request whose virtual host or cluster is not there comes here. The one who fetches takes
//! up what was asked for and answers; any number of requests that ask for the same wait for one
//! answer.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

/// The most names that are waited for at once; what comes then is told that there is nothing, so
/// that made-up names can't grow memory while nobody answers.
const MOST_WAITING: usize = 1024;

/// Something that is fetched on demand.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Wanted {
    /// A virtual host by VHDS: `<route table>/<host>`.
    VirtualHost(Arc<str>),
    /// A cluster by on-demand CDS.
    Cluster(Arc<str>),
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DemandAnswer {
    /// It is there.
    There,
    /// There is none of this name, or none that could be accepted.
    Nothing,
    /// Too much is waited for already.
    Overflow,
}

/// What requests wait for.
#[derive(Debug, Default)]
pub struct Demand {
    state: Mutex<State>,
    asked: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: HashMap<Wanted, watch::Sender<Option<DemandAnswer>>>,
    fresh: Vec<Wanted>,
}

/// Waits for one answer.
#[derive(Debug)]
pub struct Waiting(watch::Receiver<Option<DemandAnswer>>);

impl Demand {
    /// Asks for something; one question for all who ask before it is answered.
    #[must_use]
    pub fn ask(&self, wanted: &Wanted) -> Waiting {
        let mut state = self.state.lock();
        if let Some(known) = state.waiting.get(wanted) {
            return Waiting(known.subscribe());
        }
        if state.waiting.len() >= MOST_WAITING {
            state.waiting.retain(|_, answer| answer.receiver_count() > 0);
        }
        if state.waiting.len() >= MOST_WAITING {
            return Waiting(watch::channel(Some(DemandAnswer::Overflow)).1);
        }
        let (answer, waiting) = watch::channel(None);
        state.waiting.insert(wanted.clone(), answer);
        state.fresh.push(wanted.clone());
        drop(state);
        self.asked.notify_one();
        Waiting(waiting)
    }

    /// Waits until something was asked for since [`Self::take`].
    pub async fn asked(&self) {
        self.asked.notified().await;
    }

    /// Wakes who waits for questions: what is wanted changed without one.
    pub fn poke(&self) {
        self.asked.notify_one();
    }

    /// What was asked for since the last time.
    #[must_use]
    pub fn take(&self) -> Vec<Wanted> {
        std::mem::take(&mut self.state.lock().fresh)
    }

    /// Answers all who wait for it.
    pub fn answer(&self, wanted: &Wanted, answer: DemandAnswer) {
        let Some(waiting) = self.state.lock().waiting.remove(wanted) else { return };
        waiting.send_replace(Some(answer));
    }

    /// Whether anybody waits for it.
    #[must_use]
    pub fn is_waited_for(&self, wanted: &Wanted) -> bool {
        self.state.lock().waiting.get(wanted).is_some_and(|answer| answer.receiver_count() > 0)
    }
}

impl Waiting {
    /// The answer; the caller limits the time.
    pub async fn answer(mut self) -> DemandAnswer {
        let answered = self.0.wait_for(Option::is_some).await;
        // A question that is dropped has no answer.
        answered.ok().and_then(|answer| *answer).unwrap_or(DemandAnswer::Nothing)
    }
}

/// Clusters that are fetched when they are not there (`odcds`, `tcp_proxy.on_demand`).
#[derive(Clone, Debug)]
pub struct OnDemandClusters {
    /// Where requests wait.
    pub demand: Arc<Demand>,
    /// How long (`odcds.timeout`, default 5 s).
    pub timeout: Duration,
}

/// `envoy.filters.http.on_demand`
#[derive(Clone, Debug)]
pub struct OnDemandFilter {
    /// The filter's name, which `typed_per_filter_config` refers to.
    pub name: Arc<str>,
    /// Runs only where a route enables it.
    pub disabled: bool,
    /// What it fetches unless a route says otherwise.
    pub settings: weft_filter_api::OnDemandSettings,
    /// Where requests wait.
    pub demand: Arc<Demand>,
}

/// Remembers that something was used, at the price of a look where it is known already.
#[derive(Debug, Default)]
pub struct UseMark(AtomicBool);

impl UseMark {
    /// It is used.
    pub fn mark(&self) {
        if !self.0.load(Ordering::Relaxed) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    /// Whether it was used since the last time.
    pub fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str) -> Wanted {
        Wanted::VirtualHost(name.into())
    }

    #[tokio::test]
    async fn many_who_ask_are_one_question_and_get_one_answer() {
        let demand = Demand::default();
        let first = demand.ask(&host("80/a"));
        let second = demand.ask(&host("80/a"));
        demand.asked().await;
        assert_eq!(demand.take(), [host("80/a")]);
        demand.answer(&host("80/a"), DemandAnswer::There);
        assert_eq!(first.answer().await, DemandAnswer::There);
        assert_eq!(second.answer().await, DemandAnswer::There);
        assert!(demand.take().is_empty() && !demand.is_waited_for(&host("80/a")));
    }

    #[tokio::test]
    async fn what_nobody_waits_for_makes_room_and_the_rest_overflows() {
        let demand = Demand::default();
        for number in 0..MOST_WAITING {
            drop(demand.ask(&host(&number.to_string())));
        }
        let waiting: Vec<_> =
            (0..MOST_WAITING).map(|number| demand.ask(&host(&format!("again-{number}")))).collect();
        assert_eq!(demand.ask(&host("more")).answer().await, DemandAnswer::Overflow);
        assert_eq!(waiting.len(), MOST_WAITING);
    }

    #[test]
    fn a_mark_tells_of_use_since_the_last_look() {
        let mark = UseMark::default();
        assert!(!mark.take());
        mark.mark();
        assert!(mark.take() && !mark.take());
    }
}
