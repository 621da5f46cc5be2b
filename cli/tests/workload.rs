//! The demonstration's service and client, as processes.

#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};

const WEFT: &str = env!("CARGO_BIN_EXE_weft");

struct Service {
    process: Child,
    address: String,
}

impl Service {
    fn start(version: &str) -> Self {
        let mut process = Command::new(WEFT)
            .args(["workload", "serve", "--listen", "127.0.0.1:0", "--service-version", version])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").unwrap().to_owned();
        Self { process, address }
    }

    fn call(&self, arguments: &[&str]) -> Output {
        let url = format!("http://{}/", self.address);
        Command::new(WEFT).args(["workload", "call", &url]).args(arguments).output().unwrap()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn json_of(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn an_answer_tells_version_and_caller() {
    let service = Service::start("v7");
    let header = "x-forwarded-client-cert: Hash=1;URI=spiffe://a/ns/b/sa/c";
    let outcome = json_of(&service.call(&["--header", header]));
    assert_eq!(outcome["status"], 200);
    assert_eq!(
        outcome["greeting"],
        json!({"service": "greeter", "version": "v7", "caller": "spiffe://a/ns/b/sa/c"})
    );
}

#[test]
fn a_summary_counts_every_request() {
    let service = Service::start("v1");
    let output = service.call(&["--count", "50", "--connections", "3", "--summary"]);
    assert!(output.status.success());
    let summary = json_of(&output);
    assert_eq!(summary["requests"], 50);
    assert_eq!(summary["failed"], 0);
    assert_eq!(summary["versions"], json!({"v1": 50}));
    assert_eq!(summary["callers"], json!({"unknown": 50}));
}

#[test]
fn a_failed_request_makes_the_exit_code_1() {
    let mut service = Service::start("v1");
    service.process.kill().unwrap();
    service.process.wait().unwrap();
    let output = service.call(&[]);
    assert_eq!(output.status.code(), Some(1));
    let error = json_of(&output)["error"].as_str().unwrap().to_owned();
    assert!(error.starts_with("cannot connect"), "{error}");
}

#[test]
fn other_schemes_than_http_are_refused() {
    let output = Command::new(WEFT).args(["workload", "call", "https://a/"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("only http://"));
}
