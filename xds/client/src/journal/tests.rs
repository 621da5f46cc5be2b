use std::collections::BTreeMap;

use weft_xds_ads::{ClientProtocol, Subscription, client::DeltaClient};
use weft_xds_proto::{
    pack,
    pb::envoy::config::{core::v3::Node, endpoint::v3::ClusterLoadAssignment},
};

use super::*;
use crate::{Cache, CachedType};

const EDS: ResourceType = ResourceType::Endpoint;

fn resource(name: &str, version: &str) -> Resource {
    let body = pack(&ClusterLoadAssignment { cluster_name: name.into(), ..Default::default() });
    Resource { name: name.into(), version: version.into(), body: Arc::new(body) }
}

fn node() -> Node {
    Node { id: "n".into(), ..Default::default() }
}

fn state(resources: &[(&str, &str)]) -> CachedState {
    let resources = resources.iter().map(|(name, version)| resource(name, version)).collect();
    let cached = CachedType { version: "1".into(), resources, named: Vec::new() };
    CachedState { types: [(EDS, cached)].into(), blobs: BTreeMap::new() }
}

/// What a client holds that has accepted these.
fn client(resources: &[(&str, &str)]) -> DeltaClient {
    let mut client = DeltaClient::new(node());
    client.set_subscriptions(vec![(EDS, Subscription::Wildcard)]);
    let resources = resources.iter().map(|(name, version)| resource(name, version)).collect();
    client.restore(EDS, "2", resources);
    client
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

struct Files {
    _folder: tempfile::TempDir,
    cache: PathBuf,
}

impl Files {
    fn of(state: &CachedState) -> (Self, Journal) {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("cache");
        Cache::store(&cache, &node(), state).unwrap();
        let journal = Journal::begin(&cache, state).unwrap();
        (Self { _folder: folder, cache }, journal)
    }

    fn read(&self) -> Vec<(String, String)> {
        let mut state = Cache::load(&self.cache, &node()).unwrap().unwrap();
        replay(&self.cache, &mut state).unwrap();
        let endpoints = state.types.remove(&EDS).unwrap().resources;
        endpoints.into_iter().map(|one| (one.name, one.version)).collect()
    }
}

fn owned(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(name, version)| ((*name).to_owned(), (*version).to_owned())).collect()
}

#[test]
fn changes_are_read_in_their_order() {
    let (files, journal) = Files::of(&state(&[("a", "1"), ("b", "1"), ("c", "1")]));
    let later = client(&[("a", "2"), ("b", "1")]);
    let record = journal.record(&names(&["a", "c"]), later.holdings()).unwrap();
    let journal = journal.append(&files.cache, &record).unwrap();
    assert_eq!(files.read(), owned(&[("a", "2"), ("b", "1")]));
    let last = client(&[("a", "3"), ("b", "1"), ("d", "1")]);
    let record = journal.record(&names(&["a", "d"]), last.holdings()).unwrap();
    journal.append(&files.cache, &record).unwrap();
    assert_eq!(files.read(), owned(&[("a", "3"), ("b", "1"), ("d", "1")]));
}

#[test]
fn a_record_cut_off_anywhere_is_as_if_it_had_not_been_begun() {
    let (files, journal) = Files::of(&state(&[("a", "1")]));
    let later = client(&[("a", "2")]);
    let record = journal.record(&names(&["a"]), later.holdings()).unwrap();
    for length in 0..record.len() {
        fs::write(beside(&files.cache), &record[..length]).unwrap();
        assert_eq!(files.read(), owned(&[("a", "1")]), "{length} bytes");
    }
    for index in 0..record.len() {
        let mut changed = record.clone();
        changed[index] ^= 1;
        fs::write(beside(&files.cache), &changed).unwrap();
        assert_eq!(files.read(), owned(&[("a", "1")]), "byte {index}");
    }
}

#[test]
fn the_changes_of_an_older_cache_mean_nothing() {
    let (files, journal) = Files::of(&state(&[("a", "1")]));
    let later = client(&[("a", "2")]);
    let record = journal.record(&names(&["a"]), later.holdings()).unwrap();
    journal.append(&files.cache, &record).unwrap();
    Cache::store(&files.cache, &node(), &state(&[("a", "3")])).unwrap();
    assert_eq!(files.read(), owned(&[("a", "3")]));
}

#[test]
fn changes_never_outgrow_the_cache() {
    let (files, mut journal) = Files::of(&state(&[("a", "1")]));
    let later = client(&[("a", "2")]);
    let size = fs::metadata(&files.cache).unwrap().len();
    while let Some(record) = journal.record(&names(&["a"]), later.holdings()) {
        journal = journal.append(&files.cache, &record).unwrap();
    }
    assert!(fs::metadata(beside(&files.cache)).unwrap().len() <= size);
    assert_eq!(files.read(), owned(&[("a", "2")]));
}

#[test]
fn nothing_is_appended_to_a_cache_without_endpoints() {
    let without = CachedState { types: BTreeMap::new(), blobs: BTreeMap::new() };
    let (_files, journal) = Files::of(&without);
    let later = client(&[("a", "2")]);
    assert!(journal.record(&names(&["a"]), later.holdings()).is_none());
}
