//! Backends that execute programs.
