//! Messages and services as `proto/` describes them.

/// Package `inference`.
#[expect(
    unreachable_pub,
    clippy::allow_attributes,
    clippy::enum_variant_names,
    reason = "generated from a description that has the documentation"
)]
pub(super) mod inference {
    tonic::include_proto!("inference");
}

/// Package `grpc.health.v1`.
#[expect(
    unreachable_pub,
    clippy::allow_attributes,
    reason = "generated from a description that has the documentation"
)]
pub(super) mod health {
    tonic::include_proto!("grpc.health.v1");
}
