#!/usr/bin/env bash
# mprec's torch backend on a GPU, beside PyTorch on the same GPU. `benches/gpu.sh --help` says more.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"

usage() {
    cat <<'TEXT'
usage: benches/gpu.sh pack FOLDER          on a machine with Rust: what a GPU host needs, under 64 MiB
       FOLDER/gpu.sh run [OPTIONS]         on the GPU host: no Rust, no network; a Python with torch 2.11,
                                           numpy and safetensors (python3, or what PYTHON names)
       gpu.sh run --help                   the options

pack needs LIBTORCH (see .ci/libtorch): it builds mprec and the conformance suite with the feature torch.
run checks the suite on the GPU, measures, and writes results.json and results.md. `--device cpu` runs the very same
steps on libtorch's CPU backend.
TEXT
}

pack() {
    local folder="${1:?pack needs a folder to write}" suite
    cd "$here/.."
    mkdir -p "$folder"
    cargo build --release --locked --package mprec-runtime --features torch
    suite="$(cargo test --no-run --locked --package mprec-tests --features torch --test conformance --message-format=json |
        python3 -c 'import json, sys
print(next(line["executable"] for line in map(json.loads, sys.stdin)
    if line.get("reason") == "compiler-artifact" and line["target"]["name"] == "conformance" and line["executable"]))')"
    cp "${CARGO_TARGET_DIR:-target}/release/mprec" "$folder/mprec"
    cp "$suite" "$folder/conformance"
    strip "$folder/mprec" "$folder/conformance"
    cp "$here/gpu.sh" "$folder/"
    rm -rf "$folder/gpu" "$folder/peers"
    mkdir "$folder/gpu" "$folder/peers"
    cp "$here"/gpu/*.py "$folder/gpu/"
    cp "$here"/peers/*.py "$folder/peers/"
    git rev-parse HEAD > "$folder/commit"
    du -sh "$folder"
}

case "${1:-}" in
pack) pack "${@:2}" ;;
run)
    python="${PYTHON:-python3}"
    if ! lacking="$("$python" -c 'import importlib.util as u
print(*(name for name in ("torch", "numpy", "safetensors") if u.find_spec(name) is None))')" || [ -n "$lacking" ]; then
        echo "$python lacks ${lacking:-everything}; name a Python that has torch 2.11, numpy and safetensors with PYTHON=" >&2
        exit 2
    fi
    PYTHONDONTWRITEBYTECODE=1 exec "$python" "$here/gpu" "${@:2}"
    ;;
-h | --help) usage ;;
*) usage >&2; exit 2 ;;
esac
