use std::collections::VecDeque;

use http::HeaderValue;
use http_body_util::BodyExt;

use super::*;

/// A body of these frames.
struct Frames(VecDeque<Result<Frame<Bytes>, BodyError>>);

impl Body for Frames {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Poll::Ready(self.0.pop_front())
    }
}

fn data(text: &'static str) -> Result<Frame<Bytes>, BodyError> {
    Ok(Frame::data(Bytes::from_static(text.as_bytes())))
}

fn body<const N: usize>(frames: [Result<Frame<Bytes>, BodyError>; N]) -> MessageBody {
    MessageBody::new(Box::pin(Frames(frames.into())))
}

fn run<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(future)
}

fn trailers() -> HeaderMap {
    [(http::HeaderName::from_static("x-end"), HeaderValue::from_static("1"))].into_iter().collect()
}

#[test]
fn what_is_read_goes_on_with_its_trailers() {
    run(async {
        let mut body = body([data("ab"), data("cd"), Ok(Frame::trailers(trailers()))]);
        assert_eq!(body.read(4).await.unwrap(), "abcd");
        assert_eq!(body.trailers(), Some(&trailers()));
        assert!(body.whole().is_none(), "trailers are to be sent too");
        let all = body.into_body().collect().await.unwrap();
        assert_eq!(all.trailers(), Some(&trailers()));
        assert_eq!(all.to_bytes(), "abcd");
    });
}

#[test]
fn a_body_that_is_too_long_is_not_read_to_its_end() {
    run(async {
        let mut long = body([data("abc"), data("def"), Err(BodyError::Broken)]);
        let error = long.read(4).await.unwrap_err();
        assert!(matches!(error, ReadError::TooLong(4)));
        assert_eq!(error.into_reply().status, 413);
        let mut full = MessageBody::full(Bytes::from_static(b"abcde"));
        assert!(matches!(full.read(4).await, Err(ReadError::TooLong(4))));
    });
}

#[test]
fn a_part_can_be_looked_at_before_the_rest_is_there() {
    run(async {
        let mut body = body([data("ab"), data("cd"), data("ef")]);
        assert_eq!(body.peek(3).await.unwrap(), ("abcd".into(), false));
        assert_eq!(body.peek(100).await.unwrap(), ("abcdef".into(), true));
        assert_eq!(body.whole().unwrap(), "abcdef");
        assert_eq!(body.change(), BodyChange::None);
    });
}

#[test]
fn a_transformer_gets_what_was_read_and_the_rest() {
    run(async {
        let mut body = body([data("ab"), data("cd")]);
        body.peek(1).await.unwrap();
        body.transform(|inner| {
            let louder = inner
                .map_frame(|frame| frame.map_data(|data| Bytes::from(data.to_ascii_uppercase())));
            Box::pin(louder)
        });
        assert_eq!(body.change(), BodyChange::Transformed);
        assert_eq!(body.read(9).await.unwrap(), "ABCD");
    });
}

#[test]
fn a_message_that_has_no_body_gets_none() {
    let mut body = MessageBody::bare();
    body.transform(|_| panic!("there is nothing to transform"));
    body.replace(Bytes::from_static(b"abc"));
    assert_eq!((body.change(), body.known_length()), (BodyChange::Replaced, Some(3)));
}
