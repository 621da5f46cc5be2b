use super::*;

fn exporter(envelope: Envelope) -> (Arc<Exporter>, ExportStats) {
    let stats = ExportStats::new(&Registry::new(), "test", ["sent", "dropped"]);
    let target = ExportTarget {
        cluster: "collector".to_owned(),
        head: Request::post("http://collector/take").body(()).expect("a request"),
        envelope,
        timeout: Duration::from_secs(1),
        batch: 10,
        flush: Duration::from_secs(5),
    };
    (Exporter::new(target, stats.clone()), stats)
}

#[test]
fn a_batch_is_due_when_it_is_full_or_old() {
    let (exporter, stats) = exporter(Envelope::JsonList);
    let now = Instant::now();
    assert!(exporter.take(shard(), Some(now)).is_none());
    exporter.add(|out| out.extend_from_slice(b"1"));
    exporter.add(|out| out.extend_from_slice(b"2"));
    assert!(exporter.take(shard(), Some(Instant::now())).is_none());
    let batch = exporter.take(shard(), Some(now + Duration::from_secs(60))).expect("it is old");
    assert_eq!(&batch.request.body()[..], b"[1,2]");
    assert_eq!((batch.request.uri().path(), &*batch.cluster), ("/take", "collector"));
    batch.done(true);
    exporter.add(|out| out.extend_from_slice(b"12345678901"));
    exporter.take(shard(), Some(Instant::now())).expect("it is full").done(false);
    assert_eq!((stats.sent.value(), stats.failed.value()), (2, 1));
}

#[test]
fn records_without_room_are_dropped_and_counted() {
    let (exporter, stats) = exporter(Envelope::JsonList);
    exporter.add(|out| out.resize(LIMIT, b'1'));
    exporter.add(|_| panic!("there is no room"));
    assert_eq!(stats.dropped.value(), 1);
    drop(exporter);
    assert_eq!(stats.dropped.value(), 2);
}

#[test]
fn batches_underway_are_limited() {
    let (exporter, _) = exporter(Envelope::JsonList);
    let take = || {
        exporter.add(|out| out.push(b'1'));
        exporter.take(shard(), None)
    };
    let underway: Vec<_> = (0..MOST_UNDERWAY).map(|_| take().expect("there may be more")).collect();
    assert!(take().is_none());
    drop(underway);
    assert!(take().is_some());
}

#[test]
fn envelopes_of_protobuf_nest() {
    let levels = vec![(1, vec![8, 1]), (2, Vec::new())];
    let envelope = Envelope::Protobuf { grpc: true, first: vec![24, 5], levels };
    let expected = [0, 0, 0, 0, 9, 24, 5, 10, 5, 8, 1, 18, 1, 7];
    assert_eq!(&envelope.around(&[7])[..], expected);
}

#[test]
fn long_messages_have_long_lengths() {
    let mut out = Vec::new();
    wire::message(&mut out, 1, |out| wire::bytes(out, 2, &[9; 200]));
    assert_eq!(out[..6], [10, 203, 1, 18, 200, 1]);
    assert_eq!(out.len(), 206);
}
