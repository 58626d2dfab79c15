//! Benchmarks: `cargo bench -p mprec-benches` times each kernel beside scalar and checks it first,
//! a decision of the router (`--bench decide`), and queries that hold what is the user's once (`--bench user_once`).
//!
//! Whole paths are measured by `mprec bench`, and beside other runtimes by `peers.py`.
