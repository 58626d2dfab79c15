//! Engine, endpoint, command line.

pub mod bench;
pub mod config;
pub mod endpoint;
pub mod engine;
pub mod experiment;
pub mod grpc;
pub mod http;
pub mod load;
pub mod metrics;
pub mod paths;
pub mod profiler;
pub mod record;
pub mod report;
pub mod repository;
pub mod security;
pub mod service;
pub mod status;
mod time;
pub mod top;
