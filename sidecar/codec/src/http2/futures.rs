//! The futures of a connection's streams, polled by the connection's own future.
//!
//! A task for each stream would cost an allocation, two moves of a large future and two turns
//! through the runtime's queue. Here a stream's place is used again by the next one, whoever wakes
//! a stream wakes its connection at most once, and what many streams have written when the
//! connection's turn comes goes out together.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use parking_lot::Mutex;

/// Stands for the connection itself among the streams that are ready.
const CONNECTION: u32 = u32::MAX;
/// How many rounds are made before others have their turn.
const ROUNDS: u32 = 8;
/// Places that are kept for streams to come.
const SPARE: usize = 64;

/// Who is ready to be polled.
#[derive(Debug, Default)]
struct Ready(Mutex<ReadyState>);

#[derive(Debug, Default)]
struct ReadyState {
    queue: Vec<u32>,
    /// The connection's task, unless it is running or was woken already.
    task: Option<Waker>,
}

#[derive(Debug)]
struct Place {
    index: u32,
    queued: AtomicBool,
    ready: Arc<Ready>,
}

impl Wake for Place {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.queued.swap(true, Ordering::AcqRel) {
            return;
        }
        let task = {
            let mut state = self.ready.0.lock();
            state.queue.push(self.index);
            state.task.take()
        };
        if let Some(task) = task {
            task.wake();
        }
    }
}

/// A place for a stream's future.
#[derive(Debug)]
struct Slot<F> {
    place: Arc<Place>,
    waker: Waker,
    future: Pin<Box<Option<F>>>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Futures<F> {
    ready: Arc<Ready>,
    connection: Arc<Place>,
    waker: Waker,
    slots: Vec<Slot<F>>,
    free: Vec<u32>,
    /// Those that are polled in this round.
    batch: Vec<u32>,
}

impl<F: Future<Output = ()>> Futures<F> {
    pub(super) fn new() -> Self {
        let ready = Arc::new(Ready::default());
        let connection = Arc::new(Place {
            index: CONNECTION,
            queued: AtomicBool::new(true),
            ready: Arc::clone(&ready),
        });
        ready.0.lock().queue.push(CONNECTION);
        let waker = Waker::from(Arc::clone(&connection));
        Self { ready, connection, waker, slots: Vec::new(), free: Vec::new(), batch: Vec::new() }
    }

    /// Makes the connection's turn come.
    pub(super) fn wake_connection(&self) {
        self.connection.wake_by_ref();
    }

    /// Takes a stream's future in and polls it once.
    pub(super) fn start(&mut self, future: F) {
        let index = self.free.pop().unwrap_or_else(|| self.grow());
        let slot = &mut self.slots[index as usize];
        slot.future.as_mut().set(Some(future));
        self.poll_stream(index);
    }

    fn grow(&mut self) -> u32 {
        let index = u32::try_from(self.slots.len()).unwrap_or(CONNECTION - 1);
        let place = Place { index, queued: AtomicBool::new(false), ready: Arc::clone(&self.ready) };
        let place = Arc::new(place);
        let waker = Waker::from(Arc::clone(&place));
        self.slots.push(Slot { place, waker, future: Box::pin(None) });
        index
    }

    fn poll_stream(&mut self, index: u32) {
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        let Some(future) = slot.future.as_mut().as_pin_mut() else { return };
        let mut cx = Context::from_waker(&slot.waker);
        if future.poll(&mut cx).is_ready() {
            slot.future.as_mut().set(None);
            self.free.push(index);
        }
    }

    /// Polls all that is ready, the connection after the streams, until nothing is or the
    /// connection is ready. `connection` gets the place for new streams.
    pub(super) fn poll<R>(
        &mut self,
        cx: &mut Context<'_>,
        mut connection: impl FnMut(&mut Self, &mut Context<'_>) -> Poll<R>,
    ) -> Poll<R> {
        let mut rounds = 0;
        while self.next_batch(cx, rounds < ROUNDS) {
            rounds += 1;
            let mut turn = false;
            let batch = std::mem::take(&mut self.batch);
            for index in &batch {
                if *index == CONNECTION {
                    self.connection.queued.store(false, Ordering::Release);
                    turn = true;
                } else {
                    if let Some(slot) = self.slots.get(*index as usize) {
                        slot.place.queued.store(false, Ordering::Release);
                    }
                    self.poll_stream(*index);
                }
            }
            self.batch = batch;
            if turn {
                let waker = self.waker.clone();
                if let Poll::Ready(result) = connection(self, &mut Context::from_waker(&waker)) {
                    return Poll::Ready(result);
                }
            }
        }
        self.shrink();
        Poll::Pending
    }

    /// Takes what is ready; if that is nothing, or `again` is not set, the task will be woken.
    fn next_batch(&mut self, cx: &mut Context<'_>, again: bool) -> bool {
        self.batch.clear();
        let mut state = self.ready.0.lock();
        // While it runs, nobody has to wake it.
        state.task = None;
        if again && !state.queue.is_empty() {
            std::mem::swap(&mut state.queue, &mut self.batch);
            return true;
        }
        if state.queue.is_empty() {
            state.task = Some(cx.waker().clone());
        } else {
            cx.waker().wake_by_ref();
        }
        false
    }

    /// Gives the places back that a burst of streams has left behind.
    fn shrink(&mut self) {
        if self.slots.len() > SPARE && self.free.len() == self.slots.len() {
            self.slots.truncate(SPARE);
            self.free.retain(|index| (*index as usize) < SPARE);
        }
    }
}
