//! Trains variants.
