//! The aggregated discovery protocol as state machines without I/O: both variants, both ends.
