//! Asking the servers of `resolv.conf`.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, ResponseCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// How long one server may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often all are asked.
const ROUNDS: usize = 2;
/// The largest answer that is taken over UDP (RFC 9715: what passes without fragments).
const PAYLOAD: u16 = 1232;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// `resolv.conf` names no server.
    #[error("there is no name server")]
    NoServer,
    /// A server can't be reached.
    #[error("{server}: {source}")]
    Io {
        /// The server.
        server: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// A server is silent.
    #[error("{server} does not answer")]
    Silent {
        /// The server.
        server: SocketAddr,
    },
    /// A server answers with nonsense.
    #[error("{server}: {reason}")]
    Malformed {
        /// The server.
        server: SocketAddr,
        /// What is wrong.
        reason: String,
    },
}

/// Asks the servers, one after the other, until one knows an answer. One that says that it failed is
/// believed when no other is better.
///
/// # Errors
/// What is wrong with the last that was asked.
pub(crate) async fn ask(servers: &[SocketAddr], query: &Message) -> Result<Message, ForwardError> {
    let (mut refused, mut last) = (None, ForwardError::NoServer);
    for _ in 0..ROUNDS {
        for &server in servers {
            match ask_one(server, query).await {
                Ok(answer) if is_definite(&answer) => return Ok(answer),
                Ok(answer) => refused = Some(answer),
                Err(error) => last = error,
            }
        }
        if refused.is_some() {
            break;
        }
    }
    refused.ok_or(last)
}

fn is_definite(answer: &Message) -> bool {
    matches!(answer.metadata.response_code, ResponseCode::NoError | ResponseCode::NXDomain)
}

async fn ask_one(server: SocketAddr, query: &Message) -> Result<Message, ForwardError> {
    let question = own(query);
    let malformed = |reason: String| ForwardError::Malformed { server, reason };
    let bytes = question.to_vec().map_err(|error| malformed(error.to_string()))?;
    let io = |source| ForwardError::Io { server, source };
    let silent = |_| ForwardError::Silent { server };
    let over_udp = timeout(PATIENCE, over_udp(server, &question, &bytes)).await;
    let answer = over_udp.map_err(silent)?.map_err(io)?;
    if !answer.metadata.truncation {
        return Ok(answer);
    }
    let over_tcp = timeout(PATIENCE, over_tcp(server, &bytes)).await;
    let bytes = over_tcp.map_err(silent)?.map_err(io)?;
    let answer = Message::from_vec(&bytes).map_err(|error| malformed(error.to_string()))?;
    if answers(&question, &answer) { Ok(answer) } else { Err(malformed("answers another".into())) }
}

/// The query under a number that nobody can guess.
fn own(query: &Message) -> Message {
    let mut own = Message::new(fastrand::u16(..), MessageType::Query, OpCode::Query);
    own.metadata.recursion_desired = query.metadata.recursion_desired;
    own.metadata.checking_disabled = query.metadata.checking_disabled;
    own.metadata.authentic_data = query.metadata.authentic_data;
    own.add_queries(query.queries.iter().cloned());
    let mut edns = Edns::new();
    edns.set_max_payload(PAYLOAD);
    edns.set_dnssec_ok(query.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok));
    own.set_edns(edns);
    own
}

/// Whether this is the answer to that question; anybody can send datagrams.
fn answers(question: &Message, answer: &Message) -> bool {
    answer.metadata.message_type == MessageType::Response
        && answer.metadata.id == question.metadata.id
        && (answer.queries == question.queries || answer.queries.is_empty())
}

/// From a port of its own each time.
async fn over_udp(server: SocketAddr, question: &Message, bytes: &[u8]) -> io::Result<Message> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(bytes).await?;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // What can't be read or answers something else may be forged: the true one may follow.
        if let Ok(answer) = Message::from_vec(&buffer[..length])
            && answers(question, &answer)
        {
            return Ok(answer);
        }
    }
}

async fn over_tcp(server: SocketAddr, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    write_message(&mut stream, bytes).await?;
    read_message(&mut stream).await
}

/// Writes a message behind its length (RFC 1035, 4.2.2), in one piece.
pub(crate) async fn write_message(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    let length = u16::try_from(bytes.len())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "a message above 65,535 bytes"))?;
    let mut framed = Vec::with_capacity(bytes.len() + 2);
    framed.extend_from_slice(&length.to_be_bytes());
    framed.extend_from_slice(bytes);
    stream.write_all(&framed).await
}

/// Reads a message behind its length.
pub(crate) async fn read_message(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; stream.read_u16().await?.into()];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}
