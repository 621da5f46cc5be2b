//! Traffic interception rules as data, and the program that applies them.
