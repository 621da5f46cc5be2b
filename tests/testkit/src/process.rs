//! Programs under test: started, watched, ended with the test.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{Instant, timeout};

use crate::wait::{DEADLINE, until};

/// A running program whose output is kept. It is killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    input: Option<ChildStdin>,
    lines: Arc<Mutex<Vec<String>>>,
    readers: Vec<thread::JoinHandle<()>>,
}

impl Process {
    /// Starts a command and reads both of its outputs.
    ///
    /// # Errors
    ///
    /// When it can't be started.
    pub fn start(command: Command) -> Result<Self> {
        Self::spawn(command, Stdio::null())
    }

    /// The same for a program that [`Self::say`] tells what to do.
    ///
    /// # Errors
    ///
    /// When it can't be started.
    pub fn start_listening(command: Command) -> Result<Self> {
        Self::spawn(command, Stdio::piped())
    }

    fn spawn(mut command: Command, input: Stdio) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdin(input)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let lines = Arc::new(Mutex::new(Vec::new()));
        let outputs: [Option<Box<dyn Read + Send>>; 2] = [
            child.stdout.take().map(|output| Box::new(output) as _),
            child.stderr.take().map(|output| Box::new(output) as _),
        ];
        let readers = outputs.into_iter().flatten().map(|output| {
            let lines = lines.clone();
            // Ends with the process, whose end closes the pipe.
            thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
                }
            })
        });
        let readers = readers.collect();
        let input = child.stdin.take();
        Ok(Self { name, child, input, lines, readers })
    }

    /// Writes a line to the input of a program that was started with [`Self::start_listening`].
    ///
    /// # Errors
    ///
    /// When it does not read, with its output.
    pub fn say(&mut self, line: &str) -> Result<()> {
        let input =
            self.input.as_mut().with_context(|| format!("{} does not listen", self.name))?;
        let told = input.write_all(line.as_bytes()).and_then(|()| input.write_all(b"\n"));
        told.and_then(|()| input.flush())
            .with_context(|| format!("{} does not read:\n{}", self.name, self.output()))
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed so far, on either output.
    #[must_use]
    pub fn output(&self) -> String {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).join("\n")
    }

    /// Waits for a line that contains `text`, and returns it.
    ///
    /// # Errors
    ///
    /// When the program ends or the deadline passes first, with its output.
    pub async fn line_with(&mut self, text: &str) -> Result<String> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            // Asked first: what it printed before its end counts.
            let silent = self.readers.iter().all(thread::JoinHandle::is_finished);
            let ended = self.child.try_wait()?.filter(|_| silent);
            let found = {
                let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
                lines.iter().find(|line| line.contains(text)).cloned()
            };
            if let Some(line) = found {
                return Ok(line);
            }
            if ended.is_some() || Instant::now() > deadline {
                let state =
                    ended.map_or_else(|| "still runs".to_owned(), |status| status.to_string());
                bail!("{} ({state}) did not print `{text}` but:\n{}", self.name, self.output());
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    /// Waits until a GET is answered with 200.
    ///
    /// # Errors
    ///
    /// When the program ends or the deadline passes first, with its output.
    pub async fn ready(&mut self, address: SocketAddr, path: &str) -> Result<()> {
        self.ready_when(path, || async {
            let reply = timeout(DEADLINE, crate::get(address, path)).await??;
            ensure!(reply.status == 200, "{} {}", reply.status, reply.text());
            Ok(())
        })
        .await
    }

    /// Waits until a question is answered, and returns the answer.
    ///
    /// # Errors
    ///
    /// When the program ends or the deadline passes first, with its output.
    pub async fn ready_when<T, F>(&mut self, what: &str, ask: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let answered = until(what, ask);
        tokio::pin!(answered);
        loop {
            tokio::select! {
                result = &mut answered => {
                    return result.with_context(|| format!("{}:\n{}", self.name, self.output()));
                }
                () = tokio::time::sleep(std::time::Duration::from_millis(50)) => {
                    if let Some(status) = self.child.try_wait()? {
                        bail!("{} ended ({status}):\n{}", self.name, self.output());
                    }
                }
            }
        }
    }

    /// Sends a signal.
    ///
    /// # Errors
    ///
    /// When the process is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.child.id())?);
        kill(pid, signal).with_context(|| format!("signalling {}", self.name))
    }

    /// Waits for the end, and until all that it printed is in [`Self::output`].
    ///
    /// # Errors
    ///
    /// When the deadline passes first, with the output.
    pub async fn end(&mut self) -> Result<ExitStatus> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            // Read first: once it has ended, all that it printed has been taken up.
            let silent = self.readers.iter().all(thread::JoinHandle::is_finished);
            if let Some(status) = self.child.try_wait()?.filter(|_| silent) {
                return Ok(status);
            }
            ensure!(Instant::now() < deadline, "{} does not end:\n{}", self.name, self.output());
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    /// Ends it with SIGTERM and waits.
    ///
    /// # Errors
    ///
    /// When it does not end within the deadline.
    pub async fn stop(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        self.end().await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
