use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::SystemTime;

use http::{Request, Response};
use weft_filter_api::Protocol;

use super::*;

/// Notes under its name what it sees.
#[derive(Debug)]
struct Noting(&'static str, Arc<Mutex<Vec<String>>>);

impl Noting {
    fn note(&self, what: &str) {
        self.1.lock().expect("it is whole").push(format!("{} {what}", self.0));
    }
}

impl HttpFilter for Noting {
    fn sees_responses(&self) -> bool {
        true
    }

    fn request<'a>(
        &'a self,
        _: &'a mut StreamCx,
        _: &'a mut RequestHead,
        _: Option<&'a RouteFilterConfig>,
    ) -> Flow<'a> {
        self.note("request");
        Flow::Continue
    }

    fn response<'a>(
        &'a self,
        _: &'a mut StreamCx,
        _: &'a mut ResponseHead,
        _: Option<&'a RouteFilterConfig>,
    ) -> Flow<'a> {
        self.note("response");
        Flow::Continue
    }
}

fn connection() -> ConnectionFacts {
    let address = SocketAddr::from(([192, 0, 2, 1], 1));
    ConnectionFacts {
        id: 1,
        remote: address,
        local: address,
        restored: false,
        accepted: SystemTime::UNIX_EPOCH,
        application_protocols: Vec::new(),
        server_name: None,
        tls: None,
        annotations: None,
        tlvs: None,
        keep_source: None,
        kept: Vec::new(),
    }
}

async fn done(flow: Flow<'_>) -> Option<LocalReply> {
    match flow {
        Flow::Continue => None,
        Flow::Reply(reply) => Some(reply),
        Flow::Await(waiting) => waiting.await,
    }
}

#[tokio::test]
async fn a_stream_meets_one_version_from_its_request_to_its_response() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let slot = HttpExtension::empty();
    let put = |name| {
        let filter: Arc<dyn HttpFilter> = Arc::new(Noting(name, Arc::clone(&seen)));
        slot.set(Arc::new(Extension(Some(filter))));
    };
    let filter = DiscoveredHttpFilter(slot.clone());
    let mut head = Request::new(()).into_parts().0;
    let mut answer = Response::new(()).into_parts().0;
    put("old");
    let mut cx = StreamCx::new(Arc::new(connection()), Protocol::Http11);
    assert!(done(filter.request(&mut cx, &mut head, None)).await.is_none());
    put("new");
    assert!(done(filter.response(&mut cx, &mut answer, None)).await.is_none());
    let mut cx = StreamCx::new(Arc::new(connection()), Protocol::Http11);
    assert!(done(filter.request(&mut cx, &mut head, None)).await.is_none());
    assert_eq!(*seen.lock().expect("it is whole"), ["old request", "old response", "new request"]);
}

#[tokio::test]
async fn requests_fail_while_there_is_no_configuration() {
    let filter = DiscoveredHttpFilter(HttpExtension::empty());
    let mut cx = StreamCx::new(Arc::new(connection()), Protocol::Http11);
    let mut head = Request::new(()).into_parts().0;
    let reply = done(filter.request(&mut cx, &mut head, None)).await.expect("it fails");
    assert_eq!(reply.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(cx.flags.to_string(), "NFCF");
}
