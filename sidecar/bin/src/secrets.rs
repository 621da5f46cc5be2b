//! Servers of secrets besides the control plane: one stream to each that is in use.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weft_config::{AdsSettings, AdsVariant, SecretReceiver, SecretServer, SharedEngine};
use weft_model::SnapshotWatch;
use weft_xds_client::{ClientConfig, ClientHandle, Service, Variant};

use crate::control_plane::ClusterTransport;

/// The streams, by server.
pub(crate) struct SecretStreams {
    engine: SharedEngine,
    snapshot: SnapshotWatch,
    open: BTreeMap<SecretServer, Stream>,
}

/// A stream ends when it is dropped.
struct Stream {
    client: ClientHandle,
    wanted: BTreeSet<String>,
}

impl SecretStreams {
    pub(crate) fn new(engine: SharedEngine, snapshot: SnapshotWatch) -> Self {
        Self { engine, snapshot, open: BTreeMap::new() }
    }

    /// Opens, changes and closes streams as the configuration in use wants it.
    pub(crate) fn follow(&mut self) {
        let wanted = self.engine.lock().secret_servers();
        self.open.retain(|server, _| wanted.contains_key(server));
        for (server, names) in wanted {
            match self.open.get_mut(&server) {
                None => {
                    let client = self.connect(&server);
                    self.open.insert(server, Stream { client, wanted: names });
                }
                Some(stream) if stream.wanted != names => {
                    stream.wanted = names;
                    stream.client.refresh();
                }
                Some(_) => {}
            }
        }
    }

    fn connect(&self, server: &SecretServer) -> ClientHandle {
        let (variant, spoken) = if server.is_incremental() {
            (AdsVariant::Delta, Variant::Delta)
        } else {
            (AdsVariant::Sotw, Variant::Sotw)
        };
        let node = self.engine.lock().bootstrap().node.clone();
        let mut config = ClientConfig::new(node, spoken);
        config.service = Service::Secrets;
        let settings = AdsSettings {
            variant,
            cluster: server.cluster().to_owned(),
            authority: None,
            metadata: Vec::new(),
            node_on_first_message_only: true,
        };
        let transport = ClusterTransport::new(self.snapshot.clone(), settings, None);
        let receiver = SecretReceiver { engine: self.engine.clone(), server: server.clone() };
        weft_xds_client::spawn(config, Arc::new(transport), Box::new(receiver))
    }
}
