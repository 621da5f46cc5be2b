//! From a query to its answer: the mesh's names, what is remembered, or what a server says.

use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};
use weft_model::{NameTable, Slot};

use crate::answer;
use crate::cache::{Cache, Found, Key};
use crate::forward::{self, ForwardError};
use crate::resolv_conf::ResolvConf;

/// How long a client waits for servers where an answer of before is at hand (RFC 8767, 5).
const WITH_STALE: Duration = Duration::from_millis(1800);
/// How long a client waits at all.
const WITHOUT: Duration = Duration::from_secs(5);

/// Answers queries.
#[derive(Debug)]
pub struct Resolver {
    names: Slot<NameTable>,
    conf: ResolvConf,
    cache: Mutex<Cache>,
}

impl Resolver {
    /// Answers for these names itself, and asks these servers for others.
    #[must_use]
    pub fn new(names: Slot<NameTable>, conf: ResolvConf) -> Self {
        Self { names, conf, cache: Mutex::default() }
    }

    /// The answer to a query; every query has one.
    pub(crate) async fn resolve(&self, query: &Message) -> Message {
        if query.metadata.message_type != MessageType::Query {
            return answer::empty(query, ResponseCode::FormErr);
        }
        if query.metadata.op_code != OpCode::Query {
            return answer::empty(query, ResponseCode::NotImp);
        }
        if answer::question(query).is_none() {
            let code = match query.queries.len() {
                1 => ResponseCode::Refused,
                _ => ResponseCode::FormErr,
            };
            return answer::empty(query, code);
        }
        let of_mesh = self.names.get();
        let of_mesh = of_mesh.as_deref();
        let known = of_mesh.and_then(|table| answer::from_table(table, &self.conf.search, query));
        match known {
            Some(answer) => answer,
            None => self.ask_outside(query).await,
        }
    }

    async fn ask_outside(&self, query: &Message) -> Message {
        let Some(key) = key(query) else { return answer::empty(query, ResponseCode::FormErr) };
        let found = self.cache.lock().find(&key, Instant::now());
        let stale = match found {
            Found::Fresh(known) => return told(query, known),
            Found::Stale { answer, ask: false } => return told(query, answer),
            Found::Stale { answer, ask: true } => Some(answer),
            Found::Nothing => None,
        };
        let patience = if stale.is_some() { WITH_STALE } else { WITHOUT };
        let asked = timeout(patience, forward::ask(&self.conf.servers, query)).await;
        match (asked, stale) {
            (Ok(Ok(new)), _) if new.metadata.response_code != ResponseCode::ServFail => {
                self.cache.lock().keep(key, &new, Instant::now());
                told(query, new)
            }
            (failed, Some(before)) => {
                self.cache.lock().unanswered(&key, Instant::now());
                tracing::debug!(name = %key.name, reason = %reason(&failed), "a stale answer");
                told(query, before)
            }
            (Ok(Ok(failure)), None) => told(query, failure),
            (failed, None) => {
                tracing::debug!(name = %key.name, reason = %reason(&failed), "no answer");
                answer::empty(query, ResponseCode::ServFail)
            }
        }
    }
}

type Asked = Result<Result<Message, ForwardError>, tokio::time::error::Elapsed>;

fn reason(asked: &Asked) -> String {
    match asked {
        Ok(Ok(answer)) => answer.metadata.response_code.to_string(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "the servers take too long".to_owned(),
    }
}

fn key(query: &Message) -> Option<Key> {
    let question = answer::question(query)?;
    Some(Key {
        name: answer::plain(question.name()),
        kind: question.query_type(),
        signed: query.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok),
        unchecked: query.metadata.checking_disabled,
    })
}

/// What a server said, as the answer to this query.
fn told(query: &Message, said: Message) -> Message {
    let mut answer = answer::empty(query, said.metadata.response_code);
    answer.metadata.authentic_data = said.metadata.authentic_data;
    answer.metadata.recursion_available = said.metadata.recursion_available;
    answer.answers = said.answers;
    answer.authorities = said.authorities;
    answer.additionals = said.additionals;
    if let (Some(own), Some(edns)) = (&mut answer.edns, &query.edns) {
        own.set_dnssec_ok(edns.flags().dnssec_ok);
    }
    answer
}
