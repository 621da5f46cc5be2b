//! Each control plane through the same changes; built and run by `make test-interop`.

mod proxy;
mod secrets;
mod server;
mod suite;
mod world;

use anyhow::Result;
use server::Program;
use suite::Suite;

const GO: Program = Program("interop/go-control-plane");

macro_rules! suites {
    ($($module:ident: $program:expr, $api:literal;)*) => { $(
        mod $module {
            use super::*;

            #[tokio::test]
            async fn the_proxy_follows_every_change() -> Result<()> {
                Suite::start($program, $api).await?.follows_every_change().await
            }

            #[tokio::test]
            async fn what_is_bad_is_refused_alone_by_name_and_field() -> Result<()> {
                Suite::start($program, $api).await?.refuses_what_is_bad_alone().await
            }

            #[tokio::test]
            async fn a_cut_connection_is_opened_anew_and_nothing_is_missed() -> Result<()> {
                Suite::start($program, $api).await?.outlives_cuts().await
            }

            #[tokio::test]
            async fn a_server_that_starts_anew_with_other_versions_is_believed() -> Result<()> {
                Suite::start($program, $api).await?.outlives_the_server().await
            }

            #[tokio::test]
            async fn secrets_come_by_a_stream_of_their_own() -> Result<()> {
                Suite::start($program, $api).await?.takes_secrets_by_their_own_stream($api).await
            }
        }
    )* };
}

suites! {
    go_incremental: GO, "DELTA_GRPC";
    go_state_of_the_world: GO, "GRPC";
}
