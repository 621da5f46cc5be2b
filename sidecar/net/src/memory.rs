//! Memory that starting, or reading a large configuration, has needed and serving does not.

use std::fs;
use std::io;

/// Gives back to the system what the allocator keeps for reuse, and forgets the pages of the
/// program that are mapped: those that are needed are mapped again from the page cache, some
/// microseconds each. Returns the bytes of program pages that were mapped.
///
/// For quiet moments after much was read, not for the way of a request. The allocator gives back
/// what the calling thread keeps, and what no thread does.
///
/// # Errors
/// The system does not tell the mappings of the process, or refuses.
pub fn release() -> io::Result<u64> {
    collect();
    let mut released = 0;
    for mapping in unmodified(&fs::read_to_string("/proc/self/smaps")?) {
        forget(&mapping)?;
        released += mapping.resident;
    }
    Ok(released)
}

/// A mapping that holds nothing but what stands in its file.
#[derive(Debug, PartialEq, Eq)]
struct Mapping {
    start: usize,
    end: usize,
    /// Bytes of it that are mapped.
    resident: u64,
}

/// The private mappings of files that can't be written to and have no page of their own. Tables
/// that the loader has relocated look alike, but their pages are the process's.
fn unmodified(smaps: &str) -> Vec<Mapping> {
    let mut found: Vec<Mapping> = Vec::new();
    let mut current: Option<Mapping> = None;
    for line in smaps.lines() {
        if let Some(size) = line.strip_prefix("Rss:") {
            if let Some(mapping) = &mut current {
                mapping.resident = kibibytes(size).unwrap_or(0) << 10;
            }
        } else if let Some(size) = line.strip_prefix("Anonymous:") {
            found.extend(current.take().filter(|_| kibibytes(size) == Some(0)));
        } else if let Some(mapping) = file_mapping(line) {
            current = mapping;
        }
    }
    found
}

/// Reads the first line of a mapping; `Some(None)` for one that is not of a file, or is writable.
fn file_mapping(line: &str) -> Option<Option<Mapping>> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    let (start, end) = (address(start)?, address(end)?);
    let permissions = words.next()?;
    let of_file = words.nth(3).is_some_and(|path| path.starts_with('/'));
    let fixed = matches!(permissions, "r-xp" | "r--p");
    Some((of_file && fixed).then_some(Mapping { start, end, resident: 0 }))
}

fn kibibytes(text: &str) -> Option<u64> {
    text.trim().strip_suffix(" kB")?.parse().ok()
}

#[allow(unsafe_code)]
fn forget(mapping: &Mapping) -> io::Result<()> {
    let start = std::ptr::with_exposed_provenance_mut(mapping.start);
    let length = mapping.end - mapping.start;
    // SAFETY: the mapping is private, can't be written to, and none of its pages differs from the
    // file: whoever reads from it next gets the same bytes.
    let result = unsafe { nix::libc::madvise(start, length, nix::libc::MADV_DONTNEED) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(feature = "mimalloc")]
#[allow(unsafe_code)]
fn collect() {
    use mimalloc as _;
    unsafe extern "C" {
        fn mi_collect(force: bool);
    }
    // SAFETY: mimalloc is linked, and its function has no precondition.
    unsafe { mi_collect(true) }
}

#[cfg(not(feature = "mimalloc"))]
fn collect() {}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &str = "\
55d0a0000000-55d0a0010000 r--p 00000000 fe:00 42 /usr/bin/weft sidecar
Size:                 64 kB
Rss:                  40 kB
Anonymous:             0 kB
55d0a0010000-55d0a0020000 r-xp 00010000 fe:00 42 /usr/bin/weft
Rss:                   8 kB
Anonymous:             4 kB
55d0a0020000-55d0a0030000 r--p 00020000 fe:00 42 /usr/bin/weft
Rss:                  64 kB
Anonymous:            64 kB
55d0a0030000-55d0a0040000 rw-p 00030000 fe:00 42 /usr/bin/weft
Rss:                   0 kB
Anonymous:             0 kB
7f0000000000-7f0000010000 r--p 00000000 00:00 0
Rss:                   0 kB
Anonymous:             0 kB
7fff00000000-7fff00001000 r-xp 00000000 00:00 0 [vdso]
Rss:                   4 kB
Anonymous:             0 kB
";

    #[test]
    fn only_unmodified_mappings_of_files_are_forgotten() {
        let expected =
            Mapping { start: 0x55d0_a000_0000, end: 0x55d0_a001_0000, resident: 40 << 10 };
        assert_eq!(unmodified(SMAPS), [expected]);
    }

    #[test]
    fn the_program_runs_on_without_its_pages() {
        assert!(release().unwrap() > 0);
        let text: String = (0..100).map(|n| n.to_string()).collect();
        assert_eq!(text.len(), 190);
    }
}
