//! A control plane as a program: it is told what to serve and says what happens.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use weft_testkit::{Process, program, until};

/// A program that `scripts/build-interop.sh` made, by its path below the target folder.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Program(pub(crate) &'static str);

/// A running control plane.
#[derive(Debug)]
pub(crate) struct Server {
    process: Process,
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Starts it at `address`; port 0 stands for any.
    pub(crate) async fn start(which: Program, address: SocketAddr) -> Result<Self> {
        let mut command = Command::new(program(which.0));
        command.arg("-address").arg(address.to_string());
        let mut process = Process::start_listening(command)?;
        let line = process.line_with("\"listening\"").await?;
        let line: Value = serde_json::from_str(&line)?;
        let address = line["address"].as_str().context("an address")?.parse()?;
        Ok(Self { process, address })
    }

    /// Has all of `resources` served, and nothing else.
    pub(crate) fn serve(&mut self, version: &str, resources: &[Value]) -> Result<()> {
        let command = json!({ "do": "serve", "version": version, "resources": resources });
        self.process.say(&command.to_string())
    }

    /// Closes every connection.
    pub(crate) fn cut(&mut self) -> Result<()> {
        self.process.say(&json!({ "do": "cut" }).to_string())
    }

    /// Ends it as a crash would.
    pub(crate) async fn end(&mut self) -> Result<()> {
        self.process.signal(Signal::SIGKILL)?;
        self.process.end().await.map(drop)
    }

    /// What happened so far of one kind.
    pub(crate) fn events(&self, kind: &str) -> Vec<Value> {
        let output = self.process.output();
        let lines = output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["event"] == kind).collect()
    }

    /// The message of the first refusal of `version` of which the message names `name`.
    pub(crate) async fn refusal(&self, version: &str, name: &str) -> Result<String> {
        until("a refusal", || async {
            let refusals = self.events("nack");
            let messages = refusals.iter().filter(|one| one["version"] == version);
            let mut messages = messages.filter_map(|one| one["message"].as_str());
            let found = messages.find(|message| message.contains(name));
            found.map(str::to_owned).with_context(|| format!("none of {name:?}: {refusals:?}"))
        })
        .await
    }
}
