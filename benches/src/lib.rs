//! Shapes and machine description for the benchmarks.
