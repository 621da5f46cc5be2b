use std::os::unix::fs::PermissionsExt;

use weft_xds_proto::{pack, pb::envoy::config::cluster::v3::Cluster};

use super::*;

fn node(id: &str) -> Node {
    Node { id: id.into(), ..Default::default() }
}

fn state() -> CachedState {
    let body = pack(&Cluster { name: "a".into(), ..Default::default() });
    let resources = vec![Resource { name: "a".into(), version: "1".into(), body: body.into() }];
    CachedState {
        types: [(
            ResourceType::Cluster,
            CachedType { version: "7".into(), resources, named: vec!["n".into()] },
        )]
        .into(),
        blobs: [("certificate".to_owned(), vec![1, 2, 3])].into(),
    }
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn what_was_stored_is_loaded() {
    let folder = folder();
    let path = folder.path().join("deep/er/cache");
    assert_eq!(Cache::load(&path, &node("n")).unwrap(), None);
    Cache::store(&path, &node("n"), &state()).unwrap();
    Cache::store(&path, &node("n"), &state()).unwrap();
    assert_eq!(Cache::load(&path, &node("n")).unwrap(), Some(state()));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
}

#[test]
fn another_nodes_file_is_refused() {
    let folder = folder();
    let path = folder.path().join("cache");
    Cache::store(&path, &node("one"), &state()).unwrap();
    let error = Cache::load(&path, &node("two")).unwrap_err();
    assert!(error.to_string().ends_with("belongs to node \"one\", this is \"two\""), "{error}");
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let sealed = seal("n", &state());
    for length in 0..sealed.len() {
        let error = open(Path::new("cache"), &sealed[..length], "n").unwrap_err();
        match length {
            0..8 => assert!(matches!(error, CacheError::NotACache { .. }), "{length}: {error}"),
            _ => assert!(matches!(error, CacheError::Truncated { .. }), "{length}: {error}"),
        }
    }
}

#[test]
fn a_file_changed_anywhere_is_refused() {
    let sealed = seal("n", &state());
    for index in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[index] ^= 1;
        assert!(open(Path::new("cache"), &changed, "n").is_err(), "byte {index}");
    }
    let longer = [sealed.as_slice(), b"x"].concat();
    assert!(matches!(open(Path::new("cache"), &longer, "n"), Err(CacheError::Damaged { .. })));
}

#[test]
fn another_format_is_refused_by_its_number() {
    let mut sealed = seal("n", &state());
    sealed[8] = 9;
    let error = open(Path::new("cache"), &sealed, "n").unwrap_err();
    assert_eq!(error.to_string(), "cache: has format 9, this version reads format 1");
}

#[test]
fn a_folder_that_can_not_be_written_is_named() {
    let folder = folder();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let error = Cache::store(&file.join("cache"), &node("n"), &state()).unwrap_err();
    assert!(error.to_string().contains("file/cache"), "{error}");
}
