//! Whether a node is who it says it is.

use tonic::Status;
use weft_ca::{Authenticators, Caller};
use weft_control_model::{Role, Workload};
use weft_spiffe::{PeerIdentity, SpiffeId};
use weft_xds_server::Peer;

use crate::config::EdgeConfig;

/// How a connection came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    /// Plaintext, on this machine: believed, but trusted with no secret.
    Plaintext,
    /// TLS: an identity must be proven.
    Tls,
}

/// Checks a node's description against what its peer proves; whether it may have private keys.
pub(crate) async fn check(
    door: Door,
    workload: &Workload,
    peer: &Peer,
    authenticators: &Authenticators,
    edge: &EdgeConfig,
) -> Result<bool, Status> {
    if door == Door::Plaintext && peer.bearer_token.is_none() {
        return Ok(false);
    }
    let caller = Caller {
        peer: PeerIdentity { spiffe_id: peer.spiffe_id.clone() },
        bearer_token: peer.bearer_token.clone(),
    };
    let identity = authenticators.identify(&caller).await.map_err(Status::from)?;
    agrees(workload, &identity)?;
    let trusted = edge.trusts(&workload.namespace, &workload.service_account);
    Ok(door == Door::Tls && workload.role == Role::Edge && trusted)
}

fn agrees(workload: &Workload, identity: &SpiffeId) -> Result<(), Status> {
    let Some(name) = identity.workload_name() else {
        let message = format!("{identity} is no workload's identity");
        return Err(Status::permission_denied(message));
    };
    if name.namespace != workload.namespace {
        return Err(Status::permission_denied(format!(
            "{identity} can't speak for namespace {:?}: correct NAMESPACE in the node's metadata",
            workload.namespace
        )));
    }
    if name.service_account != workload.service_account {
        return Err(Status::permission_denied(format!(
            "{identity} can't speak for service account {:?}: correct SERVICE_ACCOUNT in the \
             node's metadata",
            workload.service_account
        )));
    }
    Ok(())
}
