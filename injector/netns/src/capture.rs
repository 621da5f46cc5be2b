//! Recording what crosses the bridge, through a raw socket.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt, socket,
    sockopt,
};

use crate::{Error, Host, Segment, Trace};

/// What a capture keeps at most, in bytes of payload.
const ROOM: usize = 64 * 1024 * 1024;
/// The kernel's queue between two reads, in bytes.
const QUEUE: usize = 32 * 1024 * 1024;
/// `PACKET_OUTGOING` of packet(7): a frame leaves through this port, and was
/// seen already when it came in through another.
const OUTGOING: u8 = 4;

/// A running recording of the TCP segments on a network's bridge.
#[derive(Debug)]
pub struct Capture {
    namespace: String,
    stop: UnixStream,
    thread: Option<JoinHandle<io::Result<Trace>>>,
}

impl Capture {
    pub(crate) fn start(switch: &Host) -> Result<Self, Error> {
        let failed = |action| move |error| Error::namespace(switch.namespace(), action, error);
        let socket =
            switch.enter(open)?.map_err(io::Error::from).map_err(failed("open a raw socket"))?;
        let (stop, stopped) = UnixStream::pair().map_err(failed("make a pipe"))?;
        let thread = std::thread::Builder::new()
            .name("capture".to_owned())
            .spawn(move || record(&socket, stopped))
            .map_err(failed("start a thread"))?;
        Ok(Self { namespace: switch.namespace().to_owned(), stop, thread: Some(thread) })
    }

    /// Ends the recording; what had crossed the bridge by now is in the trace.
    ///
    /// # Errors
    ///
    /// When reading the raw socket failed.
    pub fn stop(mut self) -> Result<Trace, Error> {
        self.finish()
    }

    fn finish(&mut self) -> Result<Trace, Error> {
        let Some(thread) = self.thread.take() else {
            return Ok(Trace::default());
        };
        // The thread may have ended by an error, which the join brings back.
        let _ = self.stop.write_all(&[0]);
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            .map_err(|error| Error::namespace(&self.namespace, "capture", error))
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let _ = self.finish();
    }
}

fn open() -> nix::Result<OwnedFd> {
    let socket = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        SockProtocol::EthAll,
    )?;
    // Beyond the system's limit only with privilege; the limit is enough for a demonstration.
    let _ = setsockopt(&socket, sockopt::RcvBufForce, &QUEUE);
    Ok(socket)
}

fn record(socket: &OwnedFd, mut stopped: UnixStream) -> io::Result<Trace> {
    let mut trace = Trace::default();
    let mut kept = 0;
    let mut frame = vec![0; 128 * 1024];
    loop {
        let mut wanted = [
            PollFd::new(socket.as_fd(), PollFlags::POLLIN),
            PollFd::new(stopped.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut wanted, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            other => other?,
        };
        let ends = wanted[1].any().unwrap_or(false);
        loop {
            match recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut frame) {
                Ok((length, from)) => {
                    if from.is_some_and(|from| from.pkttype() == OUTGOING) {
                        continue;
                    }
                    keep(&mut trace, &mut kept, &frame[..length]);
                }
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR | Errno::ENETDOWN) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if ends {
            let _ = stopped.read(&mut [0]);
            return Ok(trace);
        }
    }
}

fn keep(trace: &mut Trace, kept: &mut usize, frame: &[u8]) {
    let Some(segment) = Segment::from_frame(frame) else {
        return;
    };
    if *kept + segment.payload.len() > ROOM {
        trace.dropped += 1;
        return;
    }
    *kept += segment.payload.len();
    trace.segments.push(segment);
}
