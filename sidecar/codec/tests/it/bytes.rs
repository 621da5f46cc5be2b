//! Bytes that are cut anywhere, and bytes that are wrong.

use http::Response;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weft_codec::http2::ServerOptions;

use crate::support::{OPTIONS, body, echo, local, serve};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend_from_slice(&[kind, flags]);
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// POST http://a/ on a stream, with and without the end of the head.
fn headers(flags: u8, stream: u32) -> Vec<u8> {
    frame(1, flags, stream, &[0x83, 0x86, 0x84, 0x41, 1, b'a'])
}

fn begin() -> Vec<u8> {
    [PREFACE, &frame(4, 0, 0, &[])].concat()
}

/// The kinds of the frames that the server sends until it closes the connection, with the last
/// word of each payload.
async fn answers(sent: &[u8], options: ServerOptions) -> Vec<(u8, u32, u32)> {
    let (mut io, _task) = serve(options, None, echo);
    let mut came = Vec::new();
    // A server that has read the fault may close before it has read all.
    let _ = io.write_all(sent).await;
    let _ = io.shutdown().await;
    let _ = io.read_to_end(&mut came).await;
    let mut frames = Vec::new();
    let mut rest = &came[..];
    while rest.len() >= 9 {
        let length = u32::from_be_bytes([0, rest[0], rest[1], rest[2]]) as usize;
        let word = |at: &[u8]| u32::from_be_bytes(at.try_into().unwrap());
        let payload = &rest[9..9 + length];
        let last = if length >= 4 { word(&payload[length - 4..]) } else { 0 };
        frames.push((rest[3], word(&rest[5..9]), last));
        rest = &rest[9 + length..];
    }
    frames
}

fn reset(frames: &[(u8, u32, u32)], stream: u32) -> Option<u32> {
    frames.iter().find(|frame| frame.0 == 3 && frame.1 == stream).map(|frame| frame.2)
}

fn go_away(frames: &[(u8, u32, u32)]) -> Option<u32> {
    frames.iter().find(|frame| frame.0 == 7).map(|frame| frame.2)
}

#[test]
fn a_conversation_may_be_cut_anywhere() {
    let sent = [begin(), headers(4, 1), frame(0, 0, 1, b"some"), frame(0, 1, 1, b" data")].concat();
    for cut in 1..sent.len() {
        let (head, tail) = sent.split_at(cut);
        local(async {
            let (mut io, _task) = serve(OPTIONS, None, |request| async move {
                let (data, _) = crate::support::read(request.into_body()).await.unwrap();
                Response::new(body(data))
            });
            io.write_all(head).await.unwrap();
            tokio::task::yield_now().await;
            io.write_all(tail).await.unwrap();
            let mut came = Vec::new();
            while !came.ends_with(b"some data") {
                assert_ne!(io.read_buf(&mut came).await.unwrap(), 0, "cut at {cut}: {came:?}");
            }
        });
    }
}

#[test]
fn faults_of_a_stream_end_that_stream() {
    let large = 16 << 10;
    let cases: Vec<(&str, Vec<u8>, u32)> = vec![
        ("a pseudo-header is missing", frame(1, 5, 1, &[0x83, 0x86]), 1),
        ("a pseudo-header comes twice", frame(1, 5, 1, &[0x83, 0x83, 0x86, 0x84]), 1),
        ("a pseudo-header of responses", frame(1, 5, 1, &[0x83, 0x86, 0x84, 0x88]), 1),
        ("a pseudo-header after others", frame(1, 5, 1, &[0x83, 0x86, 0x0f, 1, 1, b'x', 0x84]), 1),
        ("it depends on itself", frame(1, 0x25, 1, &[0, 0, 0, 1, 0, 0x83, 0x86, 0x84]), 1),
        (
            "less than content-length",
            [frame(1, 4, 1, &[0x83, 0x86, 0x84, 0x0f, 13, 1, b'5']), frame(0, 1, 1, b"1234")]
                .concat(),
            1,
        ),
        (
            "more than content-length",
            [frame(1, 4, 1, &[0x83, 0x86, 0x84, 0x0f, 13, 1, b'1']), frame(0, 1, 1, b"1234")]
                .concat(),
            1,
        ),
        ("trailers without the end", [headers(4, 1), headers(4, 1)].concat(), 1),
        ("a window of nothing", [headers(4, 1), frame(8, 0, 1, &[0; 4])].concat(), 1),
        (
            "a window that is too large",
            [headers(4, 1), frame(8, 0, 1, &[0x7f, 0xff, 0xff, 0xff])].concat(),
            3,
        ),
        ("headers after the end", [headers(5, 1), headers(5, 1)].concat(), 5),
        ("data after the end", [headers(5, 1), frame(0, 1, 1, b"x")].concat(), 5),
        (
            "more than the window",
            [headers(4, 1), frame(0, 0, 1, &vec![0; large]).repeat(9)].concat(),
            3,
        ),
    ];
    for (fault, sent, reason) in cases {
        local(async {
            let options = ServerOptions { stream_window: 10, ..OPTIONS };
            let sent = [begin(), frame(4, 1, 0, &[]), sent].concat();
            let options = if fault == "more than the window" { options } else { OPTIONS };
            let frames = answers(&sent, options).await;
            assert_eq!(reset(&frames, 1), Some(reason), "{fault}: {frames:?}");
            assert_eq!(go_away(&frames), None, "{fault}: {frames:?}");
        });
    }
}

#[test]
fn faults_of_the_connection_end_it() {
    let cases: Vec<(&str, Vec<u8>, u32)> = vec![
        ("another preface", b"GET / HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(), 1),
        ("no settings", [PREFACE, &headers(5, 1)].concat(), 1),
        ("data on no stream", [begin(), frame(0, 0, 0, b"x")].concat(), 1),
        ("data on an idle stream", [begin(), frame(0, 0, 3, b"x")].concat(), 1),
        ("a stream of the server's", [begin(), headers(5, 2)].concat(), 1),
        ("an earlier stream", [begin(), headers(5, 5), headers(5, 3)].concat(), 1),
        ("a frame that is too long", [begin(), frame(0, 0, 1, &vec![0; 16385])].concat(), 6),
        ("a short ping", [begin(), frame(6, 0, 0, b"x")].concat(), 6),
        ("half a setting", [begin(), frame(4, 0, 0, b"x")].concat(), 6),
        ("an absurd window", [begin(), frame(4, 0, 0, &[0, 4, 0xff, 0, 0, 0])].concat(), 3),
        ("a small frame size", [begin(), frame(4, 0, 0, &[0, 5, 0, 0, 0, 1])].concat(), 1),
        ("more padding than payload", [begin(), frame(1, 0xd, 1, &[9, 0x83])].concat(), 1),
        ("no continuation", [begin(), headers(0, 1), frame(6, 0, 0, &[0; 8])].concat(), 1),
        ("a continuation of nothing", [begin(), frame(9, 4, 1, &[])].concat(), 1),
        ("a broken header block", [begin(), frame(1, 5, 1, &[0xfe])].concat(), 9),
        ("a push", [begin(), frame(5, 4, 1, &[0, 0, 0, 2])].concat(), 1),
        ("a window of nothing", [begin(), frame(8, 0, 0, &[0; 4])].concat(), 1),
        (
            "endless continuations",
            [begin(), headers(0, 1), frame(9, 0, 1, &[]).repeat(100)].concat(),
            11,
        ),
    ];
    for (fault, sent, reason) in cases {
        local(async {
            let frames = answers(&sent, OPTIONS).await;
            assert_eq!(go_away(&frames), Some(reason), "{fault}: {frames:?}");
        });
    }
}

#[test]
fn a_client_that_only_resets_is_sent_away() {
    local(async {
        let (mut io, task) = serve(OPTIONS, None, |_| std::future::pending());
        let sender = async move {
            let (mut read, mut write) = tokio::io::split(&mut io);
            let sending = async {
                write.write_all(&begin()).await?;
                for at in 0..2000u32 {
                    let stream = at * 2 + 1;
                    let reset = frame(3, 0, stream, &[0, 0, 0, 8]);
                    write.write_all(&[headers(5, stream), reset].concat()).await?;
                }
                std::io::Result::Ok(())
            };
            let mut came = Vec::new();
            let _ = tokio::join!(sending, read.read_to_end(&mut came));
            came
        };
        let came = sender.await;
        assert!(task.await.unwrap().is_err());
        assert_eq!(came[came.len() - 4..], [0, 0, 0, 11]);
    });
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 256,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_bytes_are_too_much(sent in proptest::collection::vec(any::<u8>(), 0..600)) {
        local(async { drop(answers(&[begin(), sent].concat(), OPTIONS).await) });
    }

    #[test]
    fn no_frames_are_too_much(
        frames in proptest::collection::vec(
            (0u8..11, any::<u8>(), 0u32..8, proptest::collection::vec(any::<u8>(), 0..40)),
            0..30,
        )
    ) {
        let frames = frames.iter().map(|(kind, flags, stream, payload)| {
            // Half of the heads make sense.
            if *kind == 1 && flags & 1 == 0 { headers(5, *stream) } else { frame(*kind, *flags, *stream, payload) }
        });
        let sent = [begin(), frames.collect::<Vec<_>>().concat()].concat();
        local(async { drop(answers(&sent, OPTIONS).await) });
    }
}
