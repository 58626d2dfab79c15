#!/usr/bin/env bash
# mprec beside PyTorch, ONNX Runtime and OpenVINO on the same weights and ids. `benches/peers.sh --help` says more.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"

python=
arguments=()
while [ $# -gt 0 ]; do
    case "$1" in
    --python) python="${2:?--python takes the path of a Python with torch, onnx, onnxruntime, openvino, safetensors and numpy}"; shift 2 ;;
    --python=*) python="${1#*=}"; shift ;;
    -h | --help) help=1; arguments+=("$1"); shift ;;
    *) arguments+=("$1"); shift ;;
    esac
done

if [ -n "${help:-}" ]; then
    python3 "$here/peers" --help
    cat <<'TEXT'

This script alone:
  --python PATH   a Python that has torch, onnx, onnxruntime, openvino, safetensors and numpy. Without it one is made under
                  ${XDG_CACHE_HOME:-~/.cache}/mprec/peers: PyTorch's wheel for Linux brings CUDA libraries that are not used,
                  about 2.5 GB to download and 6 GB on disk, once. Also needed: a C and a C++ compiler.
TEXT
    exit
fi

if [ -z "$python" ]; then
    environment="${XDG_CACHE_HOME:-$HOME/.cache}/mprec/peers/python"
    python="$environment/bin/python"
    if [ ! -e "$environment/complete" ]; then
        echo "making $environment: about 2.5 GB to download (--python PATH takes an existing one)" >&2
        python3 -m venv "$environment"
        # Newer ones may lack TorchScript, which is deprecated.
        "$python" -m pip install --quiet 'torch<2.16' 'onnx<2' 'onnxruntime<2' 'openvino<2027' 'safetensors<1' 'numpy<3'
        touch "$environment/complete"
    fi
fi
if ! command -v "$python" >/dev/null; then
    echo "no Python at $python" >&2
    exit 2
fi
# Packages need not be compiled to files beside the sources; `${arguments[@]+…}` because old shells refuse an empty array.
PYTHONDONTWRITEBYTECODE=1 exec "$python" "$here/peers" ${arguments[@]+"${arguments[@]}"}
