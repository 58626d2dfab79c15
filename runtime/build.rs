//! Generates the messages and services of gRPC from `proto/`, in Rust alone: neither building nor
//! installing needs `protoc`.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(["inference.proto", "health.proto"], ["proto"])?;
    tonic_prost_build::configure()
        .build_transport(false)
        // Only tests call.
        .client_mod_attribute(".", "#[cfg(test)]")
        .codec_path("crate::grpc::codec::Codec")
        // Tensors stay where they arrived.
        .bytes(".")
        .btree_map(".")
        .compile_fds(descriptors)?;
    Ok(())
}
