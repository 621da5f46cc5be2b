//! The workers: one thread a core, each with a runtime, sockets and pools of its own.

use std::rc::Rc;
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_local;
use weft_http::WorkerCx;
use weft_model::SnapshotWatch;
use weft_net::{Drain, DrainPlan, ListenerEvent, ListenerOptions, ListenerSet, Share, Stopped};

/// Commands that a worker may have waiting; there are only a few in a process's life.
const COMMANDS: usize = 16;

/// What every worker gets.
#[derive(Clone)]
pub(crate) struct WorkerOptions {
    /// What is served.
    pub(crate) snapshot: SnapshotWatch,
    /// How many workers there are.
    pub(crate) workers: usize,
    /// How connections of changed listeners end.
    pub(crate) drain_plan: DrainPlan,
    /// Where events of sockets go.
    pub(crate) events: mpsc::Sender<ListenerEvent>,
}

/// What a worker is told.
#[derive(Debug)]
enum Command {
    /// Stop accepting on these listeners.
    Stop(Stopped),
    /// End connections by this plan; answered when none is left.
    Drain(DrainPlan, oneshot::Sender<()>),
}

/// All workers of the process.
pub(crate) struct Workers {
    threads: Vec<JoinHandle<()>>,
    commands: Vec<mpsc::Sender<Command>>,
}

impl Workers {
    /// Starts the workers.
    ///
    /// # Errors
    /// A thread or its runtime can't be made.
    pub(crate) fn start(options: &WorkerOptions) -> Result<Self> {
        let mut workers = Self { threads: Vec::new(), commands: Vec::new() };
        for (index, share) in Share::among(options.workers).into_iter().enumerate() {
            let (commands, received) = mpsc::channel(COMMANDS);
            let (started, has_started) = std::sync::mpsc::sync_channel(1);
            let options = options.clone();
            let thread = std::thread::Builder::new()
                .name(format!("worker-{index}"))
                .spawn(move || {
                    let runtime = Builder::new_current_thread()
                        .enable_all()
                        .build_local(LocalOptions::default());
                    let runtime = match runtime {
                        Ok(runtime) => runtime,
                        Err(error) => return drop(started.send(Err(error))),
                    };
                    drop(started.send(Ok(())));
                    runtime.block_on(work(index, share, options, received));
                })
                .with_context(|| format!("starting worker {index}"))?;
            has_started.recv()?.with_context(|| format!("the runtime of worker {index}"))?;
            workers.threads.push(thread);
            workers.commands.push(commands);
        }
        Ok(workers)
    }

    /// Closes listening sockets; connections stay.
    pub(crate) async fn stop_accepting(&self, which: Stopped) {
        for commands in &self.commands {
            // A worker that is gone accepts nothing.
            drop(commands.send(Command::Stop(which)).await);
        }
    }

    /// Ends all connections by the plan and waits until none is left.
    pub(crate) async fn drain(&self, plan: DrainPlan) {
        let mut waiting = Vec::new();
        for commands in &self.commands {
            let (done, is_done) = oneshot::channel();
            drop(commands.send(Command::Drain(plan, done)).await);
            waiting.push(is_done);
        }
        for worker in waiting {
            drop(worker.await);
        }
    }

    /// Ends the workers and waits for their threads.
    pub(crate) fn join(self) {
        drop(self.commands);
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a worker ended with a panic");
            }
        }
    }
}

/// The life of a worker: listeners follow the snapshot until the command channel closes.
async fn work(
    index: usize,
    share: Share,
    options: WorkerOptions,
    mut commands: mpsc::Receiver<Command>,
) {
    let drain = Drain::new();
    let cx = WorkerCx::new(options.snapshot.clone(), options.workers);
    let exporting = spawn_local(weft_http::export(Rc::clone(&cx)));
    let at_end = Rc::clone(&cx);
    let events = options.events;
    let listeners = ListenerOptions {
        snapshot: options.snapshot,
        worker: index,
        drain: drain.clone(),
        drain_plan: options.drain_plan,
        // Events are for the log and readiness: one that finds the queue full is not worth waiting for.
        events: Rc::new(move |event| drop(events.try_send(event))),
    };
    let set = ListenerSet::new(listeners, move |established| {
        weft_http::serve(established, Rc::clone(&cx))
    })
    .sharing(share);
    let (ready, is_ready) = oneshot::channel();
    let listening = spawn_local(set.run(move |stop| drop(ready.send(stop))));
    let Ok(stop) = is_ready.await else { return };
    while let Some(command) = commands.recv().await {
        match command {
            Command::Stop(which) => stop.stop(which),
            Command::Drain(plan, done) => {
                drain.run(plan).await;
                let _ = done.send(());
            }
        }
    }
    listening.abort();
    exporting.abort();
    weft_http::export_rest(&at_end).await;
}
