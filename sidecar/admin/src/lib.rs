//! The administration interface.
