//! Click datasets: readers, preprocessing, memory-mapped shards, synthetic data.
