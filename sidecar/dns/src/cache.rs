//! What servers answered, kept for as long as they said, and longer while none answers (RFC 8767).
//! Pure: times come in.

use std::collections::HashMap;
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{RData, Record, RecordType};
use tokio::time::Instant;

/// Answers kept at most.
const MOST: usize = 4096;
/// How long an answer serves after its time, while servers are away.
const STALE: Duration = Duration::from_secs(24 * 3600);
/// The time to live of an answer whose own is over, in seconds (RFC 8767, 4).
const STALE_TTL: u32 = 30;
/// How long servers are not asked again after none answered.
const RECHECK: Duration = Duration::from_secs(30);
/// The longest time that an answer is believed, in seconds.
const LONGEST: u32 = 24 * 3600;
/// The longest time that the absence of something is believed, in seconds.
const LONGEST_ABSENCE: u32 = 900;

/// What was asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    /// In lower case.
    pub(crate) name: String,
    pub(crate) kind: RecordType,
    /// Whether signatures are wanted.
    pub(crate) signed: bool,
    /// Whether they are left unchecked.
    pub(crate) unchecked: bool,
}

/// What is known of a question.
pub(crate) enum Found {
    /// An answer that still holds.
    Fresh(Message),
    /// One that has held, for the case that no server answers.
    Stale {
        answer: Message,
        /// Whether it is time to ask them.
        ask: bool,
    },
    Nothing,
}

#[derive(Debug)]
struct Entry {
    answer: Message,
    stored: Instant,
    fresh_until: Instant,
    ask_from: Instant,
}

/// Answers by question.
#[derive(Debug, Default)]
pub(crate) struct Cache(HashMap<Key, Entry>);

impl Cache {
    /// What is known, with the times to live that are left.
    pub(crate) fn find(&self, key: &Key, now: Instant) -> Found {
        let Some(entry) = self.0.get(key) else { return Found::Nothing };
        let mut answer = entry.answer.clone();
        if now < entry.fresh_until {
            let age = now.duration_since(entry.stored).as_secs();
            let age = u32::try_from(age).unwrap_or(u32::MAX);
            each_record(&mut answer, |record| record.ttl = record.ttl.saturating_sub(age));
            return Found::Fresh(answer);
        }
        if now >= entry.fresh_until + STALE {
            return Found::Nothing;
        }
        each_record(&mut answer, |record| record.ttl = STALE_TTL);
        Found::Stale { answer, ask: now >= entry.ask_from }
    }

    /// Keeps an answer for as long as it says, if at all.
    pub(crate) fn keep(&mut self, key: Key, answer: &Message, now: Instant) {
        let Some(seconds) = lifetime(answer).filter(|seconds| *seconds > 0) else { return };
        if self.0.len() >= MOST && !self.0.contains_key(&key) {
            self.make_room(now);
        }
        let fresh_until = now + Duration::from_secs(seconds.into());
        let mut answer = answer.clone();
        answer.edns = None;
        self.0.insert(key, Entry { answer, stored: now, fresh_until, ask_from: now });
    }

    /// No server has answered: none is asked for a while.
    pub(crate) fn unanswered(&mut self, key: &Key, now: Instant) {
        if let Some(entry) = self.0.get_mut(key) {
            entry.ask_from = now + RECHECK;
        }
    }

    /// Drops what is over, and if all holds, the half that ends first.
    fn make_room(&mut self, now: Instant) {
        self.0.retain(|_, entry| now < entry.fresh_until);
        if self.0.len() < MOST {
            return;
        }
        let mut ends: Vec<_> = self.0.values().map(|entry| entry.fresh_until).collect();
        let half = ends.len() / 2;
        let (_, median, _) = ends.select_nth_unstable(half);
        let median = *median;
        self.0.retain(|_, entry| entry.fresh_until > median);
    }
}

fn each_record(message: &mut Message, mut change: impl FnMut(&mut Record)) {
    let all = [&mut message.answers, &mut message.authorities, &mut message.additionals];
    all.into_iter().flatten().for_each(&mut change);
}

/// For how many seconds an answer holds: for as long as all its records, and the absence of records
/// for as long as the zone says (RFC 2308, 5). Nothing for what is no answer.
fn lifetime(answer: &Message) -> Option<u32> {
    let code = answer.metadata.response_code;
    if answer.metadata.truncation || !matches!(code, ResponseCode::NoError | ResponseCode::NXDomain)
    {
        return None;
    }
    let of_records = answer.answers.iter().map(|record| record.ttl).min();
    let wanted = answer.queries.first()?.query_type();
    let is_there = answer
        .answers
        .iter()
        .any(|record| record.record_type() == wanted || wanted == RecordType::ANY);
    if is_there && code == ResponseCode::NoError {
        return of_records.map(|seconds| seconds.min(LONGEST));
    }
    let zone = answer.authorities.iter().find_map(|record| match &record.data {
        RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
        _ => None,
    });
    let absence = zone?.min(LONGEST_ABSENCE);
    Some(of_records.map_or(absence, |seconds| seconds.min(absence)))
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::{OpCode, Query};
    use hickory_proto::rr::Name;
    use hickory_proto::rr::rdata::{A, SOA};

    use super::*;

    fn key(name: &str) -> Key {
        Key { name: name.to_owned(), kind: RecordType::A, signed: false, unchecked: false }
    }

    fn answer(ttl: u32) -> Message {
        let mut answer = Message::response(1, OpCode::Query);
        let name = Name::from_ascii("a.test.").unwrap();
        answer.add_query(Query::query(name.clone(), RecordType::A));
        answer.add_answer(Record::from_rdata(name, ttl, RData::A(A::new(10, 0, 0, 1))));
        answer
    }

    fn absence(ttl: u32, minimum: u32) -> Message {
        let mut answer = Message::response(1, OpCode::Query);
        answer.metadata.response_code = ResponseCode::NXDomain;
        let name = Name::from_ascii("a.test.").unwrap();
        answer.add_query(Query::query(name.clone(), RecordType::A));
        let soa = SOA::new(name.clone(), name.clone(), 1, 1, 1, 1, minimum);
        answer.add_authority(Record::from_rdata(name, ttl, RData::SOA(soa)));
        answer
    }

    #[test]
    fn an_answer_ages_goes_stale_and_is_forgotten() {
        let (mut cache, start) = (Cache::default(), Instant::now());
        cache.keep(key("a"), &answer(10), start);
        let at = |seconds| start + Duration::from_secs(seconds);
        let Found::Fresh(found) = cache.find(&key("a"), at(4)) else { panic!("not fresh") };
        assert_eq!(found.answers[0].ttl, 6);
        let Found::Stale { answer, ask } = cache.find(&key("a"), at(10)) else { panic!("gone") };
        assert_eq!((answer.answers[0].ttl, ask), (STALE_TTL, true));
        cache.unanswered(&key("a"), at(10));
        let asks = |seconds| match cache.find(&key("a"), at(seconds)) {
            Found::Stale { ask, .. } => ask,
            _ => panic!("not stale"),
        };
        assert_eq!((asks(39), asks(40)), (false, true));
        assert!(matches!(cache.find(&key("a"), at(10 + 24 * 3600)), Found::Nothing));
        assert!(matches!(cache.find(&key("b"), start), Found::Nothing));
    }

    #[test]
    fn absence_holds_as_the_zone_says_and_failures_not_at_all() {
        assert_eq!(lifetime(&absence(60, 20)), Some(20));
        assert_eq!(lifetime(&absence(60, 100_000)), Some(60));
        assert_eq!(lifetime(&absence(100_000, 100_000)), Some(LONGEST_ABSENCE));
        assert_eq!(lifetime(&answer(LONGEST + 1)), Some(LONGEST));
        let mut failed = answer(60);
        failed.metadata.response_code = ResponseCode::ServFail;
        assert_eq!(lifetime(&failed), None);
        let mut cut = answer(60);
        cut.metadata.truncation = true;
        assert_eq!(lifetime(&cut), None);
        let mut bare = absence(60, 20);
        bare.authorities.clear();
        assert_eq!(lifetime(&bare), None);
    }

    #[test]
    fn a_full_cache_keeps_what_holds_longest() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        for number in 0..=MOST {
            let ttl = u32::try_from(number).unwrap() + 1;
            cache.keep(key(&number.to_string()), &answer(ttl), now);
        }
        assert!(cache.0.len() <= MOST);
        assert!(matches!(cache.find(&key(&MOST.to_string()), now), Found::Fresh(_)));
        assert!(matches!(cache.find(&key("0"), now), Found::Nothing));
    }
}
