use std::time::Duration;

use serde_json::json;
use tokio::time::advance;

use crate::testing::{Case, refused};

#[tokio::test(start_paused = true)]
async fn a_window_lets_so_many_pass_and_tells_the_rest() {
    let case = Case::new("limit-count", json!({"count": 2, "time_window": 60}));
    for left in ["1", "0"] {
        let mut outcome = case.again().get("/").run();
        let reply = outcome.respond(200);
        assert_eq!(reply.header("x-ratelimit-limit"), Some("2"));
        assert_eq!(reply.header("x-ratelimit-remaining"), Some(left));
        assert_eq!(reply.header("x-ratelimit-reset"), Some("60"));
    }
    advance(Duration::from_secs(20)).await;
    let reply = case.again().get("/").run().replies(503);
    assert_eq!(reply.header("x-ratelimit-remaining"), Some("0"));
    assert_eq!(reply.header("x-ratelimit-reset"), Some("40"));
    case.again().from([192, 0, 2, 9]).get("/").run().passes();
    advance(Duration::from_secs(40)).await;
    case.again().get("/").run().passes();
}

#[tokio::test(start_paused = true)]
async fn a_sliding_window_remembers_the_one_before() {
    let settings = json!({"count": 4, "time_window": 10, "window_type": "sliding"});
    let case = Case::new("limit-count", settings);
    for _ in 0..4 {
        case.again().get("/").run().passes();
    }
    case.again().get("/").run().replies(503);
    advance(Duration::from_secs(15)).await;
    case.again().get("/").run().passes();
    case.again().get("/").run().passes();
    case.again().get("/").run().replies(503);
}

#[tokio::test(start_paused = true)]
async fn each_of_several_rules_has_its_headers_and_applies_if_its_key_is_there() {
    let settings = json!({"rejected_msg": "no", "rules": [
        {"count": 1, "time_window": 10, "key": "$arg_u"},
        {"count": "$arg_n", "time_window": 10, "key": "all $remote_addr", "header_prefix": "A"},
    ]});
    let case = Case::new("limit-count", settings);
    let mut outcome = case.again().get("/?n=5").run();
    let reply = outcome.respond(200);
    assert_eq!(reply.header("x-1-ratelimit-limit"), None);
    assert_eq!(reply.header("x-a-ratelimit-remaining"), Some("4"));
    case.again().get("/?n=5&u=1").run().passes();
    let reply = case.again().get("/?n=5&u=1").run().replies(503);
    assert_eq!(reply.text(), "{\"error_msg\":\"no\"}\n");
    assert_eq!(reply.header("x-1-ratelimit-remaining"), Some("0"));
    case.again().get("/").run().replies(500);
}

#[test]
fn a_group_counts_together_and_settings_that_exclude_each_other_are_refused() {
    let settings = json!({"count": 1, "time_window": 60, "group": "limit-count-test"});
    let (one, other) =
        (Case::new("limit-count", settings.clone()), Case::new("limit-count", settings));
    one.get("/").run().passes();
    other.get("/").run().replies(503);
    let settings = json!({"group": "g", "rules": []});
    assert_eq!(
        refused("limit-count", settings),
        "group and rules cannot be specified at the same time"
    );
}

/// Debian's Redis on a free port, ended when dropped.
struct Server {
    process: std::process::Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Server {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = taken.local_addr().expect("an address").port();
        drop(taken);
        let process = std::process::Command::new("redis-server")
            .args(["--port", &port.to_string(), "--save", "", "--requirepass", "secret"])
            .current_dir(folder.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("redis-server is there: apt-get install redis-server");
        let server = Self { process, port, _folder: folder };
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            tokio::task::yield_now().await;
        }
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It is ended either way.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn proxies_count_together_in_redis() {
    let server = Server::start().await;
    let settings = json!({
        "count": 2, "time_window": 60, "policy": "redis", "redis_host": "127.0.0.1",
        "redis_port": server.port, "redis_password": "secret", "redis_database": 1,
    });
    // Two proxies have nothing in common but the settings.
    let cases = [(); 2].map(|()| Case::new("limit-count", settings.clone()));
    for (case, left) in cases.iter().zip(["1", "0"]) {
        let mut outcome = case.again().get("/").run_waiting().await;
        let reply = outcome.respond(200);
        assert_eq!(reply.header("x-ratelimit-remaining"), Some(left));
        assert_eq!(reply.header("x-ratelimit-reset"), Some("60"));
    }
    for case in &cases {
        let reply = case.again().get("/").run_waiting().await.replies(503);
        assert_eq!(reply.header("x-ratelimit-remaining"), Some("0"));
    }
    cases[0].again().from([192, 0, 2, 9]).get("/").run_waiting().await.passes();
    drop(server);
    let reply = cases[0].again().get("/").run_waiting().await.replies(500);
    assert_eq!(reply.text(), "{\"error_msg\":\"failed to limit count\"}\n");
}

#[test]
fn redis_needs_a_host() {
    let settings = json!({"count": 2, "time_window": 60, "policy": "redis"});
    assert_eq!(refused("limit-count", settings), "then clause did not match");
}
