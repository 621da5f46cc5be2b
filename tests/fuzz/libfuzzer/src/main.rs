//! One program for all targets; `WEFT_FUZZ_TARGET` names the one that it runs.

#![no_main]

use std::sync::OnceLock;

use weft_fuzz::Target;

static TARGET: OnceLock<Target> = OnceLock::new();

libfuzzer_sys::fuzz_target!(
    init: {
        let name = std::env::var("WEFT_FUZZ_TARGET").unwrap_or_default();
        let target = Target::named(&name).unwrap_or_else(|| panic!("no target is named {name:?}"));
        TARGET.set(target).expect("invariant: this runs once");
    },
    |input: &[u8]| {
        let target = TARGET.get().expect("invariant: set before");
        (target.run)(input);
    }
);
