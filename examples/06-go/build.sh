#!/usr/bin/env bash
# Builds both components into target/: Go 1.25 compiles, and the WebAssembly tools of jco, from npm, make a
# component of it.
set -euo pipefail
cd "$(dirname "$0")"
mkdir -p target

if ! cmp -s package-lock.json target/node_modules/made-for; then
    cp package.json package-lock.json .npmrc target/
    (cd target && npm install --no-audit --no-fund --loglevel=error >&2)
    cp package-lock.json target/node_modules/made-for
fi
rm -rf target/contract
cp -r ../../wit/0.2.0 target/contract
cp worlds.wit component.mjs empty-room.wat target/

# The generated code's library takes memory from the runtime by a name that the linker would not let it use.
for world in geofence traceparent; do
    (cd "$world" && GOOS=wasip1 GOARCH=wasm go build -mod=readonly -buildvcs=false -buildmode=c-shared \
        -ldflags="-s -w -checklinkname=0" -o "../target/$world.core.wasm" .)
    (cd target && node component.mjs "$world.core.wasm" "$world" "$world.part")
    # A name that is there stands for a whole file.
    mv "target/$world.part" "target/$world.wasm"
    echo "$PWD/target/$world.wasm"
done
