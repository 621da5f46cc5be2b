//! Answers from the mesh's own table of names. Pure.

use std::net::IpAddr;

use hickory_proto::op::{Edns, Message, Metadata, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, SRV};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use weft_model::{NameTable, NamedHost};

/// How long an answer may be kept, in seconds: a name's addresses may change at any time.
const TTL: u32 = 30;
/// The largest answer over UDP that is sent to who says nothing of its size, RFC 1035 4.2.1.
const LEAST_PAYLOAD: usize = 512;
/// What this server takes over UDP.
const PAYLOAD: u16 = 4096;

/// The question of a message that can be answered: one, of the class of the Internet.
pub(crate) fn question(message: &Message) -> Option<&Query> {
    match message.queries.as_slice() {
        [one] if one.query_class() == DNSClass::IN => Some(one),
        _ => None,
    }
}

/// A name as tables have it: in lower case, without a dot at its end.
pub(crate) fn plain(name: &Name) -> String {
    name.to_ascii().trim_end_matches('.').to_ascii_lowercase()
}

/// An answer to `query` without records.
pub(crate) fn empty(query: &Message, code: ResponseCode) -> Message {
    let mut answer = Message::response(query.metadata.id, query.metadata.op_code);
    answer.metadata = Metadata::response_from_request(&query.metadata);
    answer.metadata.recursion_available = true;
    answer.metadata.response_code = code;
    answer.add_queries(query.queries.iter().cloned());
    if query.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(PAYLOAD);
        answer.set_edns(edns);
    }
    answer
}

/// What the table says; nothing if the name is none of its.
///
/// A name with a domain of the search list behind it is one of the table if it is so without it,
/// as the system looks it up that way first.
pub(crate) fn from_table(table: &NameTable, search: &[String], query: &Message) -> Option<Message> {
    let question = question(query)?;
    let asked = plain(question.name());
    let (service, name) = match question.query_type() {
        RecordType::SRV => {
            let (service, rest) = asked.strip_prefix('_')?.split_once("._tcp.")?;
            (Some(service), rest)
        }
        _ => (None, asked.as_str()),
    };
    let known = |name: &str| table.get(name).map(|host| (name.to_owned(), host));
    let (found, host) = known(name).or_else(|| {
        let without = |domain: &String| name.strip_suffix(domain.as_str())?.strip_suffix('.');
        search.iter().filter_map(without).find_map(known)
    })?;
    let mut answer = empty(query, ResponseCode::NoError);
    match service {
        Some(service) => services(&mut answer, question, host, service, &found),
        None => addresses(&mut answer, question, host, (found != asked).then_some(&found)),
    }
    Some(answer)
}

/// Addresses of the family that was asked for, in another order each time; none is no error: the
/// name is there. A name that was found by another is called so first.
fn addresses(answer: &mut Message, question: &Query, host: &NamedHost, found: Option<&String>) {
    let mut owner = question.name().clone();
    if let Some(target) = found.and_then(|name| absolute(name)) {
        let alias = RData::CNAME(CNAME(target.clone()));
        answer.add_answer(Record::from_rdata(owner, TTL, alias));
        owner = target;
    }
    let data = |address: &IpAddr| match (question.query_type(), address) {
        (RecordType::A | RecordType::ANY, IpAddr::V4(address)) => Some(RData::A(A(*address))),
        (RecordType::AAAA | RecordType::ANY, IpAddr::V6(address)) => {
            Some(RData::AAAA(AAAA(*address)))
        }
        _ => None,
    };
    let mut all: Vec<_> = host.addresses.iter().filter_map(data).collect();
    fastrand::shuffle(&mut all);
    answer.add_answers(all.into_iter().map(|data| Record::from_rdata(owner.clone(), TTL, data)));
}

/// The ports on which a service is spoken, with the addresses beside them (RFC 2782).
fn services(answer: &mut Message, question: &Query, host: &NamedHost, service: &str, name: &str) {
    let Some(target) = absolute(name) else { return };
    let ports = host.ports.iter().filter(|(spoken, _)| spoken == service);
    let records = ports.map(|(_, port)| {
        let data = RData::SRV(SRV::new(0, 1, *port, target.clone()));
        Record::from_rdata(question.name().clone(), TTL, data)
    });
    answer.add_answers(records.collect::<Vec<_>>());
    if !answer.answers.is_empty() {
        let data = host.addresses.iter().map(|address| match *address {
            IpAddr::V4(address) => RData::A(A(address)),
            IpAddr::V6(address) => RData::AAAA(AAAA(address)),
        });
        let records = data.map(|data| Record::from_rdata(target.clone(), TTL, data));
        answer.add_additionals(records.collect::<Vec<_>>());
    }
}

fn absolute(name: &str) -> Option<Name> {
    Name::from_ascii(format!("{name}.")).ok()
}

/// The message as it goes over UDP to who asked `query`: what is too large is left out, which the
/// client is told so that it asks again over TCP. Nothing if it can't be written.
pub(crate) fn fitting(query: &Message, answer: &Message) -> Option<Vec<u8>> {
    let most = query.edns.as_ref().map_or(LEAST_PAYLOAD, |edns| edns.max_payload().into());
    let whole = answer.to_vec().ok()?;
    if whole.len() <= most.max(LEAST_PAYLOAD) {
        return Some(whole);
    }
    answer.truncate().to_vec().ok()
}

#[cfg(test)]
mod tests;
