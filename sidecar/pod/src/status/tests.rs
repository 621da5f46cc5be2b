use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

#[derive(Default)]
struct Proxy {
    ready: AtomicBool,
    quitting: AtomicBool,
}

impl ProxyState for Proxy {
    fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    fn metrics(&self) -> String {
        "own 1".to_owned()
    }

    fn drain(&self) {
        self.ready.store(false, Ordering::Relaxed);
    }

    fn quit(&self) {
        self.quitting.store(true, Ordering::Relaxed);
    }
}

/// A page of a server of the routes.
async fn get_page(port: u16, path: &str) -> (u16, String) {
    let prober = Prober::new(Ipv4Addr::LOCALHOST.into());
    let (status, body) = prober.fetch(port, path).await.unwrap();
    (status.as_u16(), String::from_utf8_lossy(&body).into_owned())
}

async fn serve(routes: Router) -> (u16, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (port, tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() }))
}

#[tokio::test]
async fn readiness_probes_and_merged_metrics_are_served() {
    let application = Router::new()
        .route("/m", get(|| async { "theirs 2\n" }))
        .route("/live", get(|| async { (StatusCode::IM_A_TEAPOT, "no") }));
    let (their_port, theirs) = serve(application).await;
    let path = "/app-health/app/livez";
    let live = format!(r#"{{"httpGet":{{"port":{their_port},"path":"/live"}}}}"#);
    let gone = r#"{"tcpSocket":{"port":1}}"#;
    let proxy = Arc::new(Proxy::default());
    let shared = Shared {
        proxy: Arc::clone(&proxy) as Arc<dyn ProxyState>,
        prober: Prober::new(Ipv4Addr::LOCALHOST.into()),
        probes: BTreeMap::from([
            (path.to_owned(), serde_json::from_str(&live).unwrap()),
            ("/app-health/app/readyz".to_owned(), serde_json::from_str(gone).unwrap()),
        ]),
        scrape: Some(Scrape { port: their_port.to_string(), path: "/m".to_owned() }),
    };
    let (port, ours) = serve(status_routes().with_state(Arc::new(shared))).await;
    assert_eq!(get_page(port, "/healthz/ready").await.0, 503);
    proxy.ready.store(true, Ordering::Relaxed);
    assert_eq!(get_page(port, "/healthz/ready").await, (200, "ready\n".to_owned()));
    assert_eq!(get_page(port, path).await, (418, "no".to_owned()));
    assert_eq!(get_page(port, "/app-health/app/readyz").await.0, 503);
    assert_eq!(get_page(port, "/app-health/other/livez").await.0, 404);
    assert_eq!(get_page(port, "/stats/prometheus").await.1, "own 1\ntheirs 2\n");
    assert_eq!(get_page(port, "/quitquitquit").await.0, 405);
    assert!(!proxy.quitting.load(Ordering::Relaxed));
    ours.abort();
    theirs.abort();
}
