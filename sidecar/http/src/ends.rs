//! Chains that end in the proxy itself: a fixed answer, and the echo.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weft_net::{DownstreamStream, Established, Phase};

/// How long a client has to read an answer before its connection is closed.
const FAREWELL: Duration = Duration::from_secs(1);
/// How much is echoed at a time, bytes.
const PIECE: usize = 16 << 10;

/// Sends these bytes and closes the connection.
pub(crate) async fn respond(established: Established, response: &[u8]) {
    let Established { mut stream, mut guard, .. } = established;
    let sent = async {
        stream.write_all(response).await?;
        stream.shutdown().await?;
        // Closed with bytes of the client unread, the kernel would reset the connection and take
        // back what the client has not read.
        let _ = tokio::time::timeout(FAREWELL, discard(&mut stream)).await;
        io::Result::Ok(())
    };
    tokio::select! {
        biased;
        _ = sent => {}
        () = guard.drain.reached(Phase::Forced) => {}
    }
}

async fn discard(stream: &mut DownstreamStream) -> io::Result<()> {
    let mut unread = [0; 1024];
    while stream.read(&mut unread).await? > 0 {}
    Ok(())
}

/// Sends back what comes, until the client has ended its side.
pub(crate) async fn echo(established: Established) {
    let Established { mut stream, mut guard, .. } = established;
    let mut piece = BytesMut::with_capacity(PIECE);
    let echoed = async {
        while stream.read_buf(&mut piece).await? > 0 {
            stream.write_all(&piece).await?;
            stream.flush().await?;
            piece.clear();
        }
        stream.shutdown().await
    };
    // A client that fails has nobody to be told.
    let _ = tokio::select! {
        biased;
        echoed = echoed => echoed,
        () = guard.drain.reached(Phase::Forced) => Ok(()),
    };
}
