//! Benchmarks: `cargo bench -p mprec-benches` times each kernel beside scalar and checks it first,
//! and a decision of the router (`--bench decide`).
//!
//! Whole paths are measured by `mprec bench`, and beside other runtimes by `peers.py`.
