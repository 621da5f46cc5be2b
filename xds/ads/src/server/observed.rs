//! The pushes that await an answer.

use std::collections::{BTreeSet, VecDeque};

use prost::Message;
use weft_xds_proto::{Any, ResourceType, pb::google::rpc::Status};

use super::ServerEvent;

/// A client that answers nothing is not remembered beyond this many pushes of one type.
const REMEMBERED: usize = 256;

/// Pushes of one type that the client has not answered yet.
#[derive(Debug, Default)]
pub(super) struct Unanswered {
    pushes: VecDeque<Push>,
    /// The client refused the last push that it answered.
    refused: bool,
}

#[derive(Debug)]
struct Push {
    nonce: String,
    version: String,
    names: Vec<String>,
}

impl Unanswered {
    pub(super) fn sent(&mut self, nonce: &str, version: &str, names: Vec<String>) {
        if self.pushes.len() == REMEMBERED {
            self.pushes.pop_front();
        }
        self.pushes.push_back(Push { nonce: nonce.into(), version: version.into(), names });
    }

    /// The client lacks nothing of `version`. Returns it if that can be told at once: not before
    /// the pushes under way are answered, nor while the client refuses what it was sent.
    pub(super) fn reached(&mut self, version: &str) -> Option<String> {
        match self.pushes.back_mut() {
            Some(last) => {
                last.version = version.to_owned();
                None
            }
            None => (!self.refused).then(|| version.to_owned()),
        }
    }

    /// What an answer means; it settles the pushes before it, too.
    pub(super) fn answered(
        &mut self,
        kind: ResourceType,
        nonce: &str,
        error: Option<Status>,
    ) -> ServerEvent {
        let Some(index) = self.pushes.iter().position(|push| push.nonce == nonce) else {
            return ServerEvent::Stale(kind);
        };
        let Some(push) = self.pushes.drain(..=index).next_back() else {
            return ServerEvent::Stale(kind);
        };
        self.refused = error.is_some();
        let Some(error) = error else {
            return ServerEvent::Acked { kind, version: push.version };
        };
        let named: Vec<String> =
            push.names.iter().filter(|name| mentions(&error.message, name)).cloned().collect();
        ServerEvent::Rejected {
            kind,
            version: push.version,
            nonce: push.nonce,
            names: if named.is_empty() { push.names } else { named },
            message: error.message,
        }
    }
}

/// Whether a refusal speaks of a resource: its name stands in it between no other name's
/// characters.
fn mentions(message: &str, name: &str) -> bool {
    let part_of_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '/' | '|');
    !name.is_empty()
        && message.match_indices(name).any(|(start, _)| {
            !message[..start].ends_with(part_of_name)
                && !message[start + name.len()..].starts_with(part_of_name)
        })
}

/// Names of the endpoint resources that the given clusters wait for: whoever gets a cluster anew
/// warms it, and waits for its endpoints even if they did not change.
pub(super) fn endpoints_of<'a>(clusters: impl Iterator<Item = &'a Any>) -> BTreeSet<String> {
    clusters
        .filter_map(|body| ClusterNames::decode(body.value.as_slice()).ok())
        .map(|cluster| match cluster.eds_cluster_config {
            Some(eds) if !eds.service_name.is_empty() => eds.service_name,
            _ => cluster.name,
        })
        .collect()
}

/// The fields of `envoy.config.cluster.v3.Cluster` that name its endpoints.
#[derive(Clone, PartialEq, Message)]
struct ClusterNames {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "3")]
    eds_cluster_config: Option<EdsNames>,
}

#[derive(Clone, PartialEq, Message)]
struct EdsNames {
    #[prost(string, tag = "2")]
    service_name: String,
}

#[cfg(test)]
mod tests {
    use weft_xds_proto::{
        pack,
        pb::envoy::config::cluster::v3::{Cluster, cluster::EdsClusterConfig},
    };

    use super::*;

    #[test]
    fn a_refusal_names_the_resources_it_speaks_of() {
        let mut unanswered = Unanswered::default();
        unanswered.sent("1", "v", vec!["a".into(), "a-b".into(), "c".into()]);
        let error = Status { message: "CDS \"a-b\": type: no".into(), ..Default::default() };
        let event = unanswered.answered(ResourceType::Cluster, "1", Some(error));
        let ServerEvent::Rejected { names, .. } = event else { panic!("{event:?}") };
        assert_eq!(names, ["a-b"]);
    }

    #[test]
    fn what_is_reached_without_a_push_waits_for_answers_and_consent() {
        let kind = ResourceType::Cluster;
        let mut unanswered = Unanswered::default();
        assert_eq!(unanswered.reached("1").as_deref(), Some("1"));
        unanswered.sent("a", "2", Vec::new());
        assert_eq!(unanswered.reached("3"), None);
        let acked = ServerEvent::Acked { kind, version: "3".into() };
        assert_eq!(unanswered.answered(kind, "a", None), acked);
        unanswered.sent("b", "4", Vec::new());
        unanswered.answered(kind, "b", Some(Status::default()));
        assert_eq!(unanswered.reached("5"), None);
    }

    #[test]
    fn endpoints_are_found_under_the_service_name_or_the_clusters() {
        let own = pack(&Cluster { name: "own".into(), ..Default::default() });
        let eds_cluster_config =
            Some(EdsClusterConfig { service_name: "service".into(), ..Default::default() });
        let other = pack(&Cluster { name: "x".into(), eds_cluster_config, ..Default::default() });
        let names = endpoints_of([own, other].iter());
        assert_eq!(names, BTreeSet::from(["own".to_owned(), "service".to_owned()]));
    }
}
