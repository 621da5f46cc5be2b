//! The server behind the proxy: answers as the case says, and keeps what it was asked.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::http1::{Message, Reader};
use crate::http2;

/// Paths below it are answered without being kept: they find out whether a connection lives.
pub(crate) const PROBE: &str = "/probe";
const USUAL: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A running server; it ends when dropped.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    script: Script,
    server: tokio::task::JoinHandle<()>,
}

/// What is answered next and what was asked; shared by all connections.
#[derive(Clone, Debug, Default)]
pub(crate) struct Script(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    replies: VecDeque<String>,
    seen: Vec<Message>,
}

/// An answer, and what happens to its connection afterwards.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) bytes: String,
    pub(crate) then: Then,
}

/// What happens to a connection after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    KeepOpen,
    Close,
    Reset,
    /// Nothing more is sent, the connection stays.
    Silence,
}

impl Upstream {
    pub(crate) async fn start(http2: bool) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let script = Script::default();
        let server = tokio::spawn(accept(listener, script.clone(), http2));
        Ok(Self { address, script, server })
    }

    /// A case begins.
    pub(crate) fn expect(&self, replies: &[String]) {
        let mut state = self.script.lock();
        state.replies = replies.iter().cloned().collect();
        state.seen.clear();
    }

    /// What was asked since the case began.
    pub(crate) fn seen(&self) -> Vec<Message> {
        std::mem::take(&mut self.script.lock().seen)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Script {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer to a request.
    pub(crate) fn answer(&self, path: &str) -> Reply {
        if path.starts_with(PROBE) {
            return Reply { bytes: USUAL.to_owned(), then: Then::KeepOpen };
        }
        let bytes = self.lock().replies.pop_front().unwrap_or_else(|| USUAL.to_owned());
        let marks =
            [("<close>", Then::Close), ("<reset>", Then::Reset), ("<silence>", Then::Silence)];
        for (mark, then) in marks {
            if let Some(bytes) = bytes.strip_suffix(mark) {
                return Reply { bytes: bytes.to_owned(), then };
            }
        }
        Reply { bytes, then: Then::KeepOpen }
    }

    /// Keeps a request.
    pub(crate) fn saw(&self, request: Message) {
        let path = request.first.split(' ').nth(1).unwrap_or_default();
        if !path.starts_with(PROBE) {
            self.lock().seen.push(request);
        }
    }
}

async fn accept(listener: TcpListener, script: Script, http2: bool) {
    // The connections end with this task.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let script = script.clone();
        connections.spawn(async move {
            // How a connection ends is seen at the proxy's other side.
            if http2 {
                drop(http2::serve(stream, &script).await);
            } else {
                drop(serve(stream, &script).await);
            }
        });
    }
}

async fn serve(mut stream: TcpStream, script: &Script) -> Result<()> {
    let (from, mut to) = stream.split();
    let mut requests = Reader::new(from);
    let then = loop {
        let Some(request) = requests.request().await? else { return Ok(()) };
        let path = request.first.split(' ').nth(1).unwrap_or_default().to_owned();
        let whole = request.whole;
        script.saw(request);
        if !whole {
            return Ok(());
        }
        let reply = script.answer(&path);
        to.write_all(reply.bytes.as_bytes()).await?;
        if reply.then != Then::KeepOpen {
            break reply.then;
        }
    };
    match then {
        Then::Reset => stream.set_zero_linger()?,
        Then::Silence => {
            requests.rest().await;
        }
        Then::KeepOpen | Then::Close => {}
    }
    Ok(())
}
