//! The members of an etcd cluster: calls go to the one that answered last,
//! and to the next when it doesn't.

use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use parking_lot::Mutex;
use prost::Message;
use tonic::client::Grpc;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Code, ConnectError, Status, Streaming};
use tonic_prost::ProstCodec;

use super::api::{self, AuthenticateRequest, AuthenticateResponse, WatchRequest, WatchResponse};
use super::config::{EtcdConfig, EtcdUser};
use super::transport;
use crate::{OpenError, StoreError};

/// Whether a call may be made again when nobody knows what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// It only reads.
    Freely,
    /// Only if it never left.
    IfUnsent,
}

/// The members and who we are to them.
pub(super) struct Cluster {
    members: Vec<Member>,
    /// The index of the member that answered last.
    current: AtomicUsize,
    timeout: Duration,
    user: Option<EtcdUser>,
    token: Mutex<Option<MetadataValue<Ascii>>>,
}

struct Member {
    address: String,
    channel: Channel,
}

/// Why one member gave no answer.
enum Failure {
    /// The request is wrong, or the user may not do it: every member would say so.
    Refused(String),
    /// The member is away or can't decide; `sent` if it may have acted all the same.
    Away { reason: String, sent: bool },
}

impl Cluster {
    /// Prepares the connections; each is opened when it is needed.
    pub(super) fn new(config: &EtcdConfig) -> Result<Self, OpenError> {
        let members = config.endpoints.iter().map(|address| {
            let channel = transport::channel(address, config)?;
            Ok(Member { address: address.clone(), channel })
        });
        let members = members.collect::<Result<Vec<_>, String>>().map_err(OpenError::Etcd)?;
        if members.is_empty() {
            return Err(OpenError::Etcd("no endpoint is given".to_owned()));
        }
        Ok(Self {
            members,
            current: AtomicUsize::new(0),
            timeout: config.timeout,
            user: config.user.clone(),
            token: Mutex::default(),
        })
    }

    /// Asks one member after the other.
    pub(super) async fn call<Q, R>(
        &self,
        path: &'static str,
        request: &Q,
        repeat: Repeat,
    ) -> Result<R, StoreError>
    where
        Q: Message + Clone + 'static,
        R: Message + Default + 'static,
    {
        let first = self.current.load(Ordering::Relaxed);
        let mut reasons = Vec::new();
        for index in (first..).map(|index| index % self.members.len()).take(self.members.len()) {
            match self.ask(&self.members[index], path, request).await {
                Ok(answer) => {
                    self.current.store(index, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(Failure::Refused(reason)) => return Err(StoreError::Engine(reason)),
                Err(Failure::Away { reason, sent }) => {
                    reasons.push(format!("{}: {reason}", self.members[index].address));
                    self.current.store((index + 1) % self.members.len(), Ordering::Relaxed);
                    if sent && repeat == Repeat::IfUnsent {
                        break;
                    }
                }
            }
        }
        Err(StoreError::Unavailable(reasons.join("; ")))
    }

    /// Opens a stream of watches at the current member; after a failure the
    /// next one is the current.
    pub(super) async fn watch(
        &self,
        orders: Vec<WatchRequest>,
    ) -> Result<Streaming<WatchResponse>, String> {
        let index = self.current.load(Ordering::Relaxed) % self.members.len();
        let member = &self.members[index];
        let opened = tokio::time::timeout(self.timeout, async {
            self.authenticate(member).await?;
            let mut grpc = grpc(member);
            grpc.ready().await.map_err(|error| away(&error))?;
            // The stream ends when its sender does: it never does.
            let orders = stream::iter(orders).chain(stream::pending());
            let mut request = tonic::Request::new(orders);
            self.sign(&mut request);
            // Without a leader there is no news: the stream is to end then.
            request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
            let path = http::uri::PathAndQuery::from_static(api::WATCH);
            grpc.streaming(request, path, ProstCodec::<WatchRequest, WatchResponse>::default())
                .await
                .map_err(|status| self.judge(&status))
        });
        let opened = opened.await.unwrap_or_else(|_| Err(self.late()));
        opened.map(tonic::Response::into_inner).map_err(|failure| {
            self.give_up(index);
            let (Failure::Refused(reason) | Failure::Away { reason, .. }) = failure;
            format!("{}: {reason}", member.address)
        })
    }

    /// The watch of the current member failed: the next is to be asked.
    pub(super) fn leave_current(&self) {
        self.give_up(self.current.load(Ordering::Relaxed));
    }

    fn give_up(&self, index: usize) {
        self.current.store((index + 1) % self.members.len(), Ordering::Relaxed);
    }

    /// One call to one member, once more after a renewal if the token was no good.
    async fn ask<Q, R>(
        &self,
        member: &Member,
        path: &'static str,
        request: &Q,
    ) -> Result<R, Failure>
    where
        Q: Message + Clone + 'static,
        R: Message + Default + 'static,
    {
        let had_token = self.token.lock().is_some();
        let asked = tokio::time::timeout(self.timeout, async {
            self.authenticate(member).await?;
            let answer = self.unary(member, path, request).await;
            let stale = answer.as_ref().err().is_some_and(|status| self.is_stale(status));
            if !(stale && had_token) {
                return answer.map_err(|status| self.judge(&status));
            }
            *self.token.lock() = None;
            self.authenticate(member).await?;
            self.unary(member, path, request).await.map_err(|status| self.judge(&status))
        });
        asked.await.unwrap_or_else(|_| Err(self.late()))
    }

    async fn unary<Q, R>(
        &self,
        member: &Member,
        path: &'static str,
        message: &Q,
    ) -> Result<R, Status>
    where
        Q: Message + Clone + 'static,
        R: Message + Default + 'static,
    {
        let mut grpc = grpc(member);
        grpc.ready().await.map_err(|error| Status::from_error(Box::new(error)))?;
        let mut request = tonic::Request::new(message.clone());
        self.sign(&mut request);
        let path = http::uri::PathAndQuery::from_static(path);
        let answer = grpc.unary(request, path, ProstCodec::<Q, R>::default()).await;
        answer.map(tonic::Response::into_inner)
    }

    /// Gets a token, if one is needed and there is none.
    async fn authenticate(&self, member: &Member) -> Result<(), Failure> {
        let Some(user) = self.user.as_ref().filter(|_| self.token.lock().is_none()) else {
            return Ok(());
        };
        let request =
            AuthenticateRequest { name: user.name.clone(), password: user.password.clone() };
        let answer: Result<AuthenticateResponse, _> =
            self.unary(member, api::AUTHENTICATE, &request).await;
        let token = answer.map_err(|status| match self.judge(&status) {
            Failure::Refused(reason) => Failure::Refused(format!("as {}: {reason}", user.name)),
            away => away,
        })?;
        let unfit = |_| Failure::Refused("the token is no header".to_owned());
        *self.token.lock() = Some(token.token.parse().map_err(unfit)?);
        Ok(())
    }

    fn sign<T>(&self, request: &mut tonic::Request<T>) {
        if let Some(token) = self.token.lock().clone() {
            request.metadata_mut().insert("token", token);
        }
    }

    /// etcd calls a token that it doesn't know any more unauthenticated, and
    /// one from before a change of its users an invalid argument.
    fn is_stale(&self, status: &Status) -> bool {
        self.user.is_some()
            && matches!(status.code(), Code::Unauthenticated | Code::InvalidArgument)
    }

    fn judge(&self, status: &Status) -> Failure {
        if self.is_stale(status) {
            *self.token.lock() = None;
        }
        match status.code() {
            Code::InvalidArgument
            | Code::NotFound
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::ResourceExhausted
            | Code::Unimplemented => Failure::Refused(status.message().to_owned()),
            _ => away(status),
        }
    }

    fn late(&self) -> Failure {
        Failure::Away { reason: format!("no answer in {:?}", self.timeout), sent: true }
    }
}

/// A client of the member that takes answers of any size: a list is one answer.
fn grpc(member: &Member) -> Grpc<Channel> {
    Grpc::new(member.channel.clone()).max_decoding_message_size(usize::MAX)
}

fn away(error: &(dyn Error + 'static)) -> Failure {
    let (mut innermost, mut sent) = (error, true);
    while let Some(source) = innermost.source() {
        innermost = source;
        sent &= !innermost.is::<ConnectError>();
    }
    // The innermost says what the system said.
    let reason = match innermost.downcast_ref::<Status>() {
        Some(status) => status.message().to_owned(),
        None => innermost.to_string(),
    };
    Failure::Away { reason, sent }
}
