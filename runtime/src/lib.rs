//! Engine, endpoint, command line.
