//! A connection in memory, whose peer has said everything that it will say.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use weft_codec::Transport;

/// How often a future may be polled before it counts as one that never ends.
const MOST_POLLS: u32 = 1 << 20;

/// How the bytes arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pieces {
    /// All at once.
    Whole,
    /// In small pieces whose sizes follow from the number, with a wait before each.
    Small(u8),
}

/// What a connection has written.
pub(crate) type Written = Rc<RefCell<Vec<u8>>>;

/// Gives its input, then the end of the stream; takes whatever is written.
#[derive(Debug)]
pub(crate) struct Feed {
    input: Vec<u8>,
    at: usize,
    pieces: Pieces,
    /// Whether the next read finds nothing yet.
    waits: bool,
    written: Written,
}

impl Feed {
    pub(crate) fn new(input: &[u8], pieces: Pieces) -> Self {
        Self { input: input.to_vec(), at: 0, pieces, waits: true, written: Written::default() }
    }

    pub(crate) fn written(&self) -> Written {
        Rc::clone(&self.written)
    }

    /// How many bytes go in one piece now.
    fn piece(&self) -> usize {
        match self.pieces {
            Pieces::Whole => usize::MAX,
            Pieces::Small(seed) => {
                let mixed = (self.at as u32 ^ u32::from(seed)).wrapping_mul(0x9e37_79b9);
                1 + (mixed >> 28) as usize
            }
        }
    }

    /// Small pieces have to be waited for.
    fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.pieces != Pieces::Whole && std::mem::take(&mut self.waits) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    }
}

impl AsyncRead for Feed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.poll_wait(cx).is_pending() {
            return Poll::Pending;
        }
        let count = self.piece().min(buf.remaining()).min(self.input.len() - self.at);
        buf.put_slice(&self.input[self.at..self.at + count]);
        self.at += count;
        self.waits = true;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Feed {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let count = self.piece().min(bytes.len());
        self.written.borrow_mut().extend_from_slice(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Transport for Feed {
    fn poll_read_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_wait(cx).map(Ok)
    }
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Polls to the end: all bytes are there, so whatever is pending has to have been woken.
pub(crate) fn drive<R>(poll: impl FnMut(&mut Context<'_>) -> Poll<R>) -> R {
    drive_until_stuck(poll).expect("nobody will wake what waits")
}

/// Polls to the end, or until nobody will wake what waits.
pub(crate) fn drive_until_stuck<R>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<R>) -> Option<R> {
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut cx = Context::from_waker(&waker);
    for _ in 0..MOST_POLLS {
        match poll(&mut cx) {
            Poll::Ready(result) => return Some(result),
            Poll::Pending if woken.0.swap(false, Ordering::Relaxed) => {}
            Poll::Pending => return None,
        }
    }
    panic!("it goes on without an end");
}
