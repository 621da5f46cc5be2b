//! etcd on free ports of the loopback, and a way to it that can be cut.

use std::net::{SocketAddr, TcpListener as StdListener};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A member of etcd, ended when dropped.
pub(crate) struct Server {
    folder: tempfile::TempDir,
    arguments: Vec<String>,
    address: SocketAddr,
    pub(crate) url: String,
    process: Option<Child>,
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    let listener = StdListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

impl Server {
    /// A cluster of one.
    pub(crate) async fn start() -> Self {
        Self::with(&[]).await
    }

    /// A cluster of one with these arguments besides; with certificates it speaks TLS.
    pub(crate) async fn with(arguments: &[String]) -> Self {
        let scheme =
            if arguments.iter().any(|one| one == "--cert-file") { "https" } else { "http" };
        let peer = format!("http://127.0.0.1:{}", free_port());
        let mut server = Self::member(scheme, "a", &peer, &format!("a={peer}"));
        server.arguments.extend_from_slice(arguments);
        server.run();
        server.listens().await;
        server
    }

    /// A cluster of `count`.
    pub(crate) async fn cluster(count: usize) -> Vec<Self> {
        let peers: Vec<_> =
            (0..count).map(|_| format!("http://127.0.0.1:{}", free_port())).collect();
        let all = peers.iter().enumerate().map(|(index, peer)| format!("m{index}={peer}"));
        let all = all.collect::<Vec<_>>().join(",");
        let member = |(index, peer): (usize, &String)| {
            Self::member("http", &format!("m{index}"), peer, &all)
        };
        let mut members: Vec<_> = peers.iter().enumerate().map(member).collect();
        members.iter_mut().for_each(Self::run);
        for member in &members {
            member.listens().await;
        }
        members
    }

    fn member(scheme: &str, name: &str, peer: &str, all: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let url = format!("{scheme}://{address}");
        let data = folder.path().join("data");
        let arguments = [
            ("--name", name),
            ("--data-dir", data.to_str().expect("UTF-8")),
            ("--listen-client-urls", &url),
            ("--advertise-client-urls", &url),
            ("--listen-peer-urls", peer),
            ("--initial-advertise-peer-urls", peer),
            ("--initial-cluster", all),
            ("--log-level", "error"),
        ];
        let arguments = arguments.into_iter().flat_map(|(name, value)| [name, value]);
        let arguments = arguments.map(str::to_owned).collect();
        Self { folder, arguments, address, url, process: None }
    }

    fn run(&mut self) {
        let process = Command::new("etcd")
            .args(&self.arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        let process = process.expect("etcd is needed: apt-get install etcd-server");
        self.process = Some(process);
    }

    async fn listens(&self) {
        let connected = async {
            let mut pause = tokio::time::interval(Duration::from_millis(20));
            while TcpStream::connect(self.address).await.is_err() {
                pause.tick().await;
            }
        };
        tokio::time::timeout(PATIENCE, connected).await.expect("etcd listens");
    }

    /// Ends it as a crash would.
    pub(crate) async fn kill(&mut self) {
        self.process.take().expect("it runs").kill().await.expect("killed");
    }

    /// Starts it again with what it had.
    pub(crate) async fn restart(&mut self) {
        self.run();
        self.listens().await;
    }

    /// Takes away what it had.
    pub(crate) fn forget(&self) {
        std::fs::remove_dir_all(self.data()).expect("removed");
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }
}

/// Passes connections on until it is cut.
pub(crate) struct Way {
    pub(crate) url: String,
    open: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Way {
    pub(crate) async fn to(server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let (open, is_open) = watch::channel(true);
        let task = tokio::spawn(pass_on(listener, server.address, is_open));
        Self { url, open, task }
    }

    /// Breaks every connection and refuses new ones.
    pub(crate) fn cut(&self) {
        self.open.send_replace(false);
    }

    pub(crate) fn mend(&self) {
        self.open.send_replace(true);
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass_on(listener: TcpListener, target: SocketAddr, is_open: watch::Receiver<bool>) {
    loop {
        let (mut near, _) = listener.accept().await.expect("accepted");
        let mut is_open = is_open.clone();
        if !*is_open.borrow() {
            continue;
        }
        tokio::spawn(async move {
            let Ok(mut far) = TcpStream::connect(target).await else { return };
            tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                _ = is_open.wait_for(|open| !open) => {}
            }
        });
    }
}
