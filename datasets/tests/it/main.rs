//! Tests of the whole crate from outside, as one program.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

mod common;
mod damaged;
mod open_bandit;
mod prepare;
mod raw;
mod real_criteo;
mod synthetic;
