//! Spreads new connections over the workers.
//!
//! The kernel deals connections out to the workers' sockets by a hash of their addresses, blind
//! to how many each worker has: of a few that live long, most may meet on one worker. So a worker
//! that accepts a connection while it has noticeably more than another hands it over.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;
use weft_model::{ListenAddress, Listener};

use crate::stream::RawStream;

/// Connections that may be on their way to a worker; more stay where they were accepted.
const QUEUE: usize = 1024;
/// A worker keeps a connection if it has no more than this part more than the idlest one has:
/// handing over costs some microseconds.
const TOLERANCE: usize = 8;

/// One worker's part in the spreading.
#[derive(Debug)]
pub struct Share {
    pub(crate) place: Place,
    handed: mpsc::Receiver<Handed>,
}

impl Share {
    /// The shares of so many workers, in the order of their numbers.
    #[must_use]
    pub fn among(workers: usize) -> Vec<Self> {
        let (seats, receivers): (Vec<_>, Vec<_>) = (0..workers)
            .map(|_| {
                let (sender, receiver) = mpsc::channel(QUEUE);
                (Arc::new(Seat { connections: AtomicUsize::new(0), handed: sender }), receiver)
            })
            .unzip();
        let seats: Arc<[Arc<Seat>]> = seats.into();
        let share =
            |(own, handed)| Self { place: Place { seats: Arc::clone(&seats), own }, handed };
        receivers.into_iter().enumerate().map(share).collect()
    }

    /// The next connection that another worker has handed over.
    pub(crate) async fn next(&mut self) -> Option<Handed> {
        self.handed.recv().await
    }
}

/// A worker among the others.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    seats: Arc<[Arc<Seat>]>,
    own: usize,
}

/// A cache line for each worker: every connection counts in one.
#[derive(Debug)]
#[repr(align(64))]
struct Seat {
    connections: AtomicUsize,
    handed: mpsc::Sender<Handed>,
}

/// A connection on its way from the worker that accepted it.
#[derive(Debug)]
pub(crate) struct Handed {
    /// Where the socket listens, as the listener says.
    pub(crate) address: ListenAddress,
    /// The listener as the accepting worker knew it.
    pub(crate) listener: Arc<Listener>,
    /// Client and destination; none for Unix sockets.
    pub(crate) addresses: Option<(SocketAddr, SocketAddr)>,
    pub(crate) counted: Counted,
    stream: Bare,
}

/// A socket that belongs to no runtime.
#[derive(Debug)]
enum Bare {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

/// Counts a connection with its worker for as long as it lives.
#[derive(Debug)]
pub(crate) struct Counted(Arc<Seat>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What becomes of a connection that was accepted.
pub(crate) enum Seated<'a> {
    /// It stays.
    Here(Counted),
    /// Another worker has room for it.
    There(Counted, mpsc::Permit<'a, Handed>),
}

impl Place {
    /// Chooses the worker of a new connection; `exact`: always the one that has the fewest.
    pub(crate) fn seat(&self, exact: bool) -> Seated<'_> {
        let load = |seat: usize| self.seats[seat].connections.load(Ordering::Relaxed);
        let idlest = (0..self.seats.len()).min_by_key(|seat| load(*seat)).unwrap_or(self.own);
        let fewest = load(idlest);
        let tolerated = if exact { 0 } else { fewest / TOLERANCE };
        if load(self.own) > fewest + tolerated
            && let Ok(permit) = self.seats[idlest].handed.try_reserve()
        {
            return Seated::There(self.count(idlest), permit);
        }
        Seated::Here(self.count(self.own))
    }

    fn count(&self, seat: usize) -> Counted {
        self.seats[seat].connections.fetch_add(1, Ordering::Relaxed);
        Counted(Arc::clone(&self.seats[seat]))
    }
}

impl Handed {
    /// Takes a socket off this worker's runtime.
    ///
    /// # Errors
    /// The runtime can't let go of it.
    pub(crate) fn new(
        stream: RawStream,
        addresses: Option<(SocketAddr, SocketAddr)>,
        (address, listener): (ListenAddress, Arc<Listener>),
        counted: Counted,
    ) -> io::Result<Self> {
        let stream = match stream {
            RawStream::Tcp(stream) => Bare::Tcp(stream.into_std()?),
            RawStream::Unix(stream) => Bare::Unix(stream.into_std()?),
        };
        Ok(Self { address, listener, addresses, counted, stream })
    }

    /// The socket on this worker's runtime, and what counts it.
    ///
    /// # Errors
    /// The runtime can't take it.
    pub(crate) fn arrive(self) -> io::Result<(RawStream, Counted)> {
        let stream = match self.stream {
            Bare::Tcp(stream) => RawStream::Tcp(TcpStream::from_std(stream)?),
            Bare::Unix(stream) => RawStream::Unix(UnixStream::from_std(stream)?),
        };
        Ok((stream, self.counted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(place: &Place, exact: bool) -> Option<Counted> {
        match place.seat(exact) {
            Seated::Here(counted) => Some(counted),
            Seated::There(..) => None,
        }
    }

    #[test]
    fn a_worker_keeps_what_it_has_room_for() {
        let shares = Share::among(2);
        let (a, b) = (&shares[0].place, &shares[1].place);
        let _on_b: Vec<_> = (0..16).map(|_| b.count(1)).collect();
        let on_a: Vec<_> = (0..18).map(|_| a.count(0)).collect();
        let within = kept(a, false).unwrap();
        assert!(kept(a, true).is_none(), "b has fewer");
        assert!(kept(a, false).is_none(), "b has noticeably fewer");
        drop((on_a, within));
        assert!(kept(b, false).is_none(), "a has none any more");
        assert!(kept(a, true).is_some());
    }

    #[test]
    fn a_worker_alone_keeps_everything() {
        let shares = Share::among(1);
        let all: Vec<_> = (0..10).map(|_| kept(&shares[0].place, true).unwrap()).collect();
        assert_eq!(all.len(), 10);
    }

    #[test]
    fn what_another_worker_can_not_take_stays() {
        let mut shares = Share::among(2);
        drop(shares.pop());
        let place = &shares[0].place;
        let all: Vec<_> = (0..10).map(|_| kept(place, true).unwrap()).collect();
        assert_eq!(all.len(), 10);
    }
}
