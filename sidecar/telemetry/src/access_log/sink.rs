//! Where lines go: a file, collected in memory and written by a thread of its own.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::shards::{SHARDS, shard};

/// A shard that holds more takes no line until it is written, bytes.
const SHARD_LIMIT: usize = 1 << 20;
/// A shard that holds more wakes the writer, bytes.
const SHARD_FULL: usize = 64 << 10;
/// How long a line waits at most before it is written, milliseconds.
static FLUSH_INTERVAL: AtomicU64 = AtomicU64::new(1000);

/// A file that log lines are written to; shared by all logs of the same path.
#[derive(Debug)]
pub struct LogSink {
    path: PathBuf,
    shards: [Mutex<Vec<u8>>; SHARDS],
    file: Mutex<File>,
    dropped: AtomicU64,
}

/// All sinks, and the thread that writes them.
#[derive(Default)]
struct Writer {
    sinks: Mutex<Vec<Weak<LogSink>>>,
    wake: Condvar,
    full: Mutex<bool>,
}

fn writer() -> &'static Writer {
    static WRITER: OnceLock<Arc<Writer>> = OnceLock::new();
    WRITER.get_or_init(|| {
        let writer = Arc::new(Writer::default());
        let thread = Arc::clone(&writer);
        let named = std::thread::Builder::new().name("access-log".into());
        // Without the thread, lines are written when the buffers are flushed at the end.
        drop(named.spawn(move || thread.run()));
        writer
    })
}

impl Writer {
    fn run(&self) {
        loop {
            {
                let mut full = self.full.lock();
                if !*full {
                    let interval = Duration::from_millis(FLUSH_INTERVAL.load(Ordering::Relaxed));
                    self.wake.wait_for(&mut full, interval);
                }
                *full = false;
            }
            self.flush();
        }
    }

    fn flush(&self) {
        let sinks: Vec<_> = {
            let mut sinks = self.sinks.lock();
            sinks.retain(|sink| sink.strong_count() > 0);
            sinks.iter().filter_map(Weak::upgrade).collect()
        };
        for sink in sinks {
            sink.flush();
        }
    }
}

impl LogSink {
    /// The sink that appends to the file at `path`, made if it is not there.
    ///
    /// # Errors
    /// The file can't be opened.
    pub fn file(path: &Path) -> io::Result<Arc<Self>> {
        let writer = writer();
        let mut sinks = writer.sinks.lock();
        if let Some(known) = sinks.iter().filter_map(Weak::upgrade).find(|sink| sink.path == path) {
            return Ok(known);
        }
        let sink = Arc::new(Self {
            path: path.to_owned(),
            shards: Default::default(),
            file: Mutex::new(open(path)?),
            dropped: AtomicU64::new(0),
        });
        sinks.push(Arc::downgrade(&sink));
        Ok(sink)
    }

    /// The sink of the standard output.
    ///
    /// # Errors
    /// The standard output is closed.
    pub fn stdout() -> io::Result<Arc<Self>> {
        Self::file(Path::new("/dev/stdout"))
    }

    /// The sink of the standard error.
    ///
    /// # Errors
    /// The standard error is closed.
    pub fn stderr() -> io::Result<Arc<Self>> {
        Self::file(Path::new("/dev/stderr"))
    }

    /// Lines lost since the disk could not keep up.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Takes a line; it is written within the flush interval.
    pub(super) fn append(&self, line: &[u8]) {
        let mut shard = self.shards[shard()].lock();
        if shard.len() + line.len() > SHARD_LIMIT {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let was_full = shard.len() >= SHARD_FULL;
        shard.extend_from_slice(line);
        if !was_full && shard.len() >= SHARD_FULL {
            let writer = writer();
            *writer.full.lock() = true;
            writer.wake.notify_one();
        }
    }

    fn flush(&self) {
        let mut file = self.file.lock();
        for shard in &self.shards {
            let lines = std::mem::take(&mut *shard.lock());
            if !lines.is_empty() && file.write_all(&lines).is_err() {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn reopen(&self) -> io::Result<()> {
        self.flush();
        *self.file.lock() = open(&self.path)?;
        Ok(())
    }
}

/// What was not written yet is written when the last log of the path is gone.
impl Drop for LogSink {
    fn drop(&mut self) {
        self.flush();
    }
}

fn open(path: &Path) -> io::Result<File> {
    // Standard streams are duplicated: they may be sockets, which can't be opened by path.
    match path.to_str() {
        Some("/dev/stdout") => {
            std::os::fd::AsFd::as_fd(&io::stdout()).try_clone_to_owned().map(File::from)
        }
        Some("/dev/stderr") => {
            std::os::fd::AsFd::as_fd(&io::stderr()).try_clone_to_owned().map(File::from)
        }
        _ => OpenOptions::new().append(true).create(true).open(path),
    }
}

/// Sets how long a line waits at most before it is written (Envoy's `--file-flush-interval-msec`);
/// a second unless it is set. At least a millisecond.
pub fn set_flush_interval(interval: Duration) {
    let millis = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
    FLUSH_INTERVAL.store(millis.max(1), Ordering::Relaxed);
}

/// Writes every line taken so far; for the end of the process and for tests.
pub fn flush_logs() {
    writer().flush();
}

/// Opens every log file anew, after it was moved away.
///
/// # Errors
/// The first error; the other files are opened all the same.
pub fn reopen_logs() -> io::Result<()> {
    let sinks: Vec<_> = writer().sinks.lock().iter().filter_map(Weak::upgrade).collect();
    sinks.iter().map(|sink| sink.reopen()).fold(Ok(()), Result::and)
}
