//! A client for Redis: as much of its protocol (RESP2) as limits need.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// The most idle connections that a worker keeps to one server.
const MOST_IDLE: usize = 100;

/// A server, with how it is asked.
#[derive(Debug)]
pub(crate) struct Redis {
    /// No other has it.
    id: u64,
    settings: Settings,
}

#[derive(Debug, Deserialize)]
struct Settings {
    redis_host: String,
    #[serde(default = "port")]
    redis_port: u16,
    redis_username: Option<String>,
    redis_password: Option<String>,
    #[serde(default)]
    redis_database: u32,
    /// Milliseconds.
    #[serde(default = "timeout")]
    redis_timeout: u64,
}

fn port() -> u16 {
    6379
}

fn timeout() -> u64 {
    1000
}

type Connection = BufReader<TcpStream>;

thread_local! {
    /// Idle connections of this worker by server.
    static IDLE: RefCell<HashMap<u64, Vec<Connection>>> = RefCell::default();
}

/// An answer.
#[derive(Debug, PartialEq)]
pub(crate) enum Answer {
    Text(String),
    Number(i64),
    Nothing,
    List(Vec<Answer>),
}

impl Redis {
    /// Reads `redis_host` and so on.
    pub(crate) fn new(settings: &serde_json::Value) -> Result<Self, String> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let settings = Settings::deserialize(settings).map_err(|error| error.to_string())?;
        Ok(Self { id: NEXT.fetch_add(1, Ordering::Relaxed), settings })
    }

    /// Runs a script on one key; gives the numbers that it returns.
    pub(crate) async fn eval(
        &self,
        script: &str,
        key: &str,
        arguments: &[String],
    ) -> Result<Vec<i64>, String> {
        let limit = Duration::from_millis(self.settings.redis_timeout);
        let asked = tokio::time::timeout(limit, self.ask(script, key, arguments)).await;
        let answer = asked.map_err(|_| "timeout".to_owned())?.map_err(|error| error.to_string())?;
        let Answer::List(items) = answer else { return Err(format!("answers {answer:?}")) };
        let number = |item: Answer| match item {
            Answer::Number(number) => Some(number),
            Answer::Text(text) => text.parse().ok(),
            Answer::Nothing | Answer::List(_) => None,
        };
        items.into_iter().map(number).collect::<Option<_>>().ok_or_else(|| "no numbers".to_owned())
    }

    async fn ask(&self, script: &str, key: &str, arguments: &[String]) -> io::Result<Answer> {
        let mut command = vec!["EVAL", script, "1", key];
        command.extend(arguments.iter().map(String::as_str));
        let idle = IDLE.with_borrow_mut(|idle| idle.get_mut(&self.id).and_then(Vec::pop));
        if let Some(mut connection) = idle
            && let Ok(answer) = exchange(&mut connection, &command).await
        {
            self.keep(connection);
            return Ok(answer);
        }
        let mut connection = self.connect().await?;
        let answer = exchange(&mut connection, &command).await?;
        self.keep(connection);
        Ok(answer)
    }

    async fn connect(&self) -> io::Result<Connection> {
        let Settings { redis_host, redis_port, .. } = &self.settings;
        let stream = TcpStream::connect((redis_host.as_str(), *redis_port)).await?;
        stream.set_nodelay(true)?;
        let mut connection = BufReader::new(stream);
        if let Some(password) = self.settings.redis_password.as_deref() {
            let user = self.settings.redis_username.as_deref();
            let command: Vec<_> = ["AUTH"].into_iter().chain(user).chain([password]).collect();
            exchange(&mut connection, &command).await?;
        }
        if self.settings.redis_database > 0 {
            let database = self.settings.redis_database.to_string();
            exchange(&mut connection, &["SELECT", &database]).await?;
        }
        Ok(connection)
    }

    fn keep(&self, connection: Connection) {
        IDLE.with_borrow_mut(|idle| {
            let idle = idle.entry(self.id).or_default();
            if idle.len() < MOST_IDLE {
                idle.push(connection);
            }
        });
    }
}

async fn exchange(connection: &mut Connection, command: &[&str]) -> io::Result<Answer> {
    let mut text = format!("*{}\r\n", command.len());
    for part in command {
        text.push_str(&format!("${}\r\n{part}\r\n", part.len()));
    }
    connection.get_mut().write_all(text.as_bytes()).await?;
    answer(connection).await
}

/// One answer; the lists have no lists in them.
async fn answer(connection: &mut Connection) -> io::Result<Answer> {
    let line = line(connection).await?;
    let Some(length) = line.strip_prefix('*') else { return simple(connection, &line).await };
    let length: usize = length.parse().map_err(|_| wrong(&line))?;
    let mut items = Vec::new();
    for _ in 0..length {
        let line = self::line(connection).await?;
        items.push(simple(connection, &line).await?);
    }
    Ok(Answer::List(items))
}

async fn simple(connection: &mut Connection, line: &str) -> io::Result<Answer> {
    let (kind, rest) = line.split_at_checked(1).ok_or_else(|| wrong(line))?;
    match kind {
        "+" => Ok(Answer::Text(rest.to_owned())),
        ":" => rest.parse().map(Answer::Number).map_err(|_| wrong(line)),
        "$" if rest == "-1" => Ok(Answer::Nothing),
        "$" => {
            let length: usize = rest.parse().map_err(|_| wrong(line))?;
            let mut text = vec![0; length + 2];
            connection.read_exact(&mut text).await?;
            text.truncate(length);
            Ok(Answer::Text(String::from_utf8_lossy(&text).into_owned()))
        }
        "-" => Err(io::Error::other(rest.to_owned())),
        _ => Err(wrong(line)),
    }
}

async fn line(connection: &mut Connection) -> io::Result<String> {
    let mut line = String::new();
    if connection.read_line(&mut line).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end().to_owned())
}

fn wrong(line: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("no answer of Redis: {line:?}"))
}
