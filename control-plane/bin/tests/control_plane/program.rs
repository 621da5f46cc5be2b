//! The program itself: arguments, messages, signals.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_weft-control-plane"))
}

/// A configuration on free ports with its data in `folder`.
fn configuration(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("config.yaml");
    let data = folder.join("data");
    let text = format!(
        "data_dir: {}\nadmin: {{listen: 127.0.0.1:0}}\n\
         xds: {{plaintext: 127.0.0.1:0, tls: 127.0.0.1:0}}\n",
        data.display()
    );
    std::fs::write(&path, text).expect("written");
    path
}

fn run(arguments: &[&str]) -> Output {
    program().args(arguments).output().expect("it runs")
}

#[test]
fn a_wrong_configuration_ends_the_start_with_its_place() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("wrong.yaml");
    std::fs::write(&path, "edge:\n  htp_port: 1\n").expect("written");
    let path = path.to_str().expect("UTF-8");
    let output = run(&["-c", path]);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    for part in [path, "htp_port", "line 2"] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn a_token_is_printed_without_a_running_control_plane() {
    let folder = TempDir::new().expect("a folder");
    let config = configuration(folder.path());
    let config = config.to_str().expect("UTF-8");
    let output = run(&["-c", config, "token", "--namespace", "a", "--service-account", "b"]);
    assert!(output.status.success(), "{output:?}");
    let token = String::from_utf8_lossy(&output.stdout);
    assert_eq!(token.trim().split('.').count(), 3, "{token}");
    let output = run(&["-c", config, "token", "--namespace", "a/b"]);
    assert_eq!(output.status.code(), Some(1));
}

#[tokio::test]
async fn a_second_one_says_who_has_the_store_and_a_signal_ends_the_first() {
    let folder = TempDir::new().expect("a folder");
    let config = configuration(folder.path());
    let mut first = tokio::process::Command::from(program())
        .arg("-c")
        .arg(&config)
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("it starts");
    let mut lines = BufReader::new(first.stderr.take().expect("piped")).lines();
    while let Some(line) = lines.next_line().await.expect("a log") {
        if line.contains("serving") {
            break;
        }
    }
    let second = run(&["-c", config.to_str().expect("UTF-8")]);
    let message = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1));
    assert!(message.contains("in use by another process"), "{message}");
    let id = first.id().expect("it runs").to_string();
    assert!(Command::new("kill").arg(&id).status().expect("kill runs").success());
    assert!(first.wait().await.expect("it ends").success());
}
