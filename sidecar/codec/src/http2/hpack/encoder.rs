//! Compression.
//!
//! A field enters the table when it is sent for the second time: what differs in every message
//! (ids, timings) never drives out what stays the same. Strings are sent as they are: Huffman's
//! code would save a third of what is sent once, and cost both ends more than all the rest.

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher};
use std::sync::LazyLock;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use http::header::{AUTHORIZATION, COOKIE, HeaderName, HeaderValue, PROXY_AUTHORIZATION};

use super::field::STATIC_TEXT;
use super::{ENTRY_OVERHEAD, STATIC_ENTRIES, TABLE_SIZE, integer};

/// Places to find entries at, and to remember what was sent once.
const BUCKETS: usize = 256;

/// The indices of names in the static table.
static STATIC_NAMES: LazyLock<HashMap<&'static str, u8, FixedState>> = LazyLock::new(|| {
    let mut names = HashMap::with_hasher(FixedState::default());
    for (index, (name, _)) in STATIC_TEXT.iter().enumerate() {
        names.entry(*name).or_insert(index as u8 + 1);
    }
    names
});

/// The sending end's table.
#[derive(Debug)]
pub(in super::super) struct Encoder {
    entries: VecDeque<Entry>,
    size: usize,
    limit: usize,
    /// A smaller limit that the peer has to be told of before the next block.
    resized: Option<usize>,
    /// Entries that were ever inserted.
    inserted: u64,
    hasher: FixedState,
    buckets: Option<Box<[Bucket; BUCKETS]>>,
}

#[derive(Debug)]
struct Entry {
    text: Box<[u8]>,
    /// How much of the text is the name.
    name: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    /// The number of an entry, from one on.
    entry: u64,
    /// The hash of a field that was sent once.
    seen: u64,
}

impl Entry {
    fn size(&self) -> usize {
        self.text.len() + ENTRY_OVERHEAD
    }

    fn is(&self, name: &str, value: &[u8]) -> bool {
        self.name == name.len()
            && self.text.len() == name.len() + value.len()
            && self.text[self.name..] == *value
            && self.text[..self.name] == *name.as_bytes()
    }
}

impl Encoder {
    pub(in super::super) fn new() -> Self {
        Self {
            entries: VecDeque::new(),
            size: 0,
            limit: TABLE_SIZE,
            resized: None,
            inserted: 0,
            hasher: FixedState::default(),
            buckets: None,
        }
    }

    /// The peer's `SETTINGS_HEADER_TABLE_SIZE`; no more than the usual size is used.
    pub(in super::super) fn set_limit(&mut self, limit: usize) {
        let limit = limit.min(TABLE_SIZE);
        if limit != self.limit {
            let smallest = self.resized.map_or(limit, |resized| resized.min(limit));
            self.resized = Some(smallest);
            self.limit = limit;
            self.evict(0);
        }
    }

    /// To be called before the first field of a block.
    pub(in super::super) fn begin(&mut self, out: &mut Vec<u8>) {
        if let Some(smallest) = self.resized.take() {
            if smallest < self.limit {
                integer::write(out, 0x20, 5, smallest);
            }
            integer::write(out, 0x20, 5, self.limit);
        }
    }

    /// A field of the static table.
    pub(in super::super) fn known(&mut self, out: &mut Vec<u8>, index: u8) {
        out.push(0x80 | index);
    }

    /// A pseudo-header whose value is not in the static table.
    pub(in super::super) fn pseudo(&mut self, out: &mut Vec<u8>, name: &'static str, value: &[u8]) {
        self.field(out, name, value);
    }

    /// A header.
    pub(in super::super) fn header(
        &mut self,
        out: &mut Vec<u8>,
        name: &HeaderName,
        value: &HeaderValue,
    ) {
        if value.is_sensitive() || is_secret(name, value) {
            literal(out, 0x10, 4, name.as_str(), value.as_bytes());
        } else {
            self.field(out, name.as_str(), value.as_bytes());
        }
    }

    fn field(&mut self, out: &mut Vec<u8>, name: &str, value: &[u8]) {
        let hash = self.hash(name, value);
        let buckets = self.buckets.get_or_insert_with(|| Box::new([Bucket::default(); BUCKETS]));
        let bucket = &mut buckets[hash as usize % BUCKETS];
        // The newest entry comes first.
        let age = self.inserted.checked_sub(bucket.entry).and_then(|age| usize::try_from(age).ok());
        if let Some(age) = age.filter(|_| bucket.entry > 0)
            && self.entries.get(age).is_some_and(|entry| entry.is(name, value))
        {
            integer::write(out, 0x80, 7, STATIC_ENTRIES + 1 + age);
            return;
        }
        if bucket.seen != hash {
            bucket.seen = hash;
            literal(out, 0x00, 4, name, value);
            return;
        }
        literal(out, 0x40, 6, name, value);
        self.inserted += 1;
        bucket.entry = self.inserted;
        self.insert(Entry { text: [name.as_bytes(), value].concat().into(), name: name.len() });
    }

    fn hash(&self, name: &str, value: &[u8]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(name.as_bytes());
        hasher.write(value);
        hasher.finish() | 1
    }

    fn insert(&mut self, entry: Entry) {
        self.evict(entry.size());
        if entry.size() > self.limit {
            // The receiver has emptied its table, and keeps nothing.
            self.inserted -= 1;
            return;
        }
        self.size += entry.size();
        self.entries.push_front(entry);
    }

    fn evict(&mut self, room: usize) {
        while self.size + room > self.limit {
            let Some(entry) = self.entries.pop_back() else { return };
            self.size -= entry.size();
        }
    }
}

/// Whether a value may be guessed by those who see how well it compresses (RFC 7541, 7.1.3).
fn is_secret(name: &HeaderName, value: &HeaderValue) -> bool {
    *name == AUTHORIZATION || *name == PROXY_AUTHORIZATION || *name == COOKIE && value.len() < 20
}

/// A field with its value written out, its name where the static table does not have it.
fn literal(out: &mut Vec<u8>, pattern: u8, bits: u32, name: &str, value: &[u8]) {
    match STATIC_NAMES.get(name) {
        Some(index) => integer::write(out, pattern, bits, usize::from(*index)),
        None => {
            out.push(pattern);
            integer::write(out, 0, 7, name.len());
            out.extend_from_slice(name.as_bytes());
        }
    }
    integer::write(out, 0, 7, value.len());
    out.extend_from_slice(value);
}
