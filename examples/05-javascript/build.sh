#!/usr/bin/env bash
# Builds both components into target/, with componentize-qjs (QuickJS) from npm beside them.
set -euo pipefail
cd "$(dirname "$0")"
mkdir -p target

if ! cmp -s package-lock.json target/node_modules/made-for; then
    cp package.json package-lock.json .npmrc target/
    # Not `npm ci`, which stops at optional packages for platforms that were never published.
    (cd target && npm install --no-audit --no-fund --loglevel=error >&2)
    cp package-lock.json target/node_modules/made-for
fi

# componentize WORLD SOURCE FILE. No capability is imported, so the contract's own worlds will do.
# Without --sync the component would need a host with asynchronous calls; without --stub-wasi it would
# import WASI, which a broker gives too.
componentize() {
    target/node_modules/.bin/componentize-qjs --wit ../../wit/0.2.0 --world "$1" --js "$2" \
        --sync --stub-wasi --output "target/$3.part" >/dev/null
    # A name that is there stands for a whole file.
    mv "target/$3.part" "target/$3"
    echo "$PWD/target/$3"
}
componentize exchange-type-plugin split.js split.wasm
componentize interceptor-plugin mask_header.js mask-header.wasm
