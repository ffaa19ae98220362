#!/usr/bin/env bash
# Builds both components into target/: clang compiles for WebAssembly, and Rust's wasm-component-ld,
# around lld, links a component. On Debian: apt install clang lld wasi-libc libclang-rt-dev-wasm32
set -euo pipefail
cd "$(dirname "$0")"
mkdir -p target

linker=$(rustc --print sysroot)/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/bin/wasm-component-ld

# component SOURCE WORLD FILE. The object beside the generated code says which world it is.
component() {
    clang --target=wasm32-wasi -mexec-model=reactor -O2 -Wall -Wextra -Wno-unused-parameter \
        "$1" "generated/$2/plugin.c" "generated/$2/plugin_component_type.o" \
        -fuse-ld="$linker" -Wl,--wasi-adapter=none,--strip-debug -o "target/$3.part"
    # A name that is there stands for a whole file.
    mv "target/$3.part" "target/$3"
    echo "$PWD/target/$3"
}
component number_range.c exchange-type-plugin number-range.wasm
component require_header.c interceptor-plugin require-header.wasm
