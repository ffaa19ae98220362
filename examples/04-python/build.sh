#!/usr/bin/env bash
# Builds both components into target/, with componentize-py from PyPI in a venv beside them.
set -euo pipefail
cd "$(dirname "$0")"
mkdir -p target

if ! cmp -s requirements.txt target/requirements.txt; then
    python3 -m venv --clear target/venv
    target/venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
    cp requirements.txt target/requirements.txt
fi

# Python writes compiled files beside what it imports: not beside the sources.
mkdir -p target/app
cp ./*.py target/app/

# componentize WORLD MODULE FILE. No capability is imported, so the contract's own worlds will do.
# Without --stub-wasi the component would import WASI, which a broker gives too.
componentize() {
    target/venv/bin/componentize-py --quiet --wit-path ../../wit/0.2.0 --world "$1" \
        componentize --stub-wasi --python-path target/app "$2" --output "target/$3.part"
    # A name that is there stands for a whole file.
    mv "target/$3.part" "target/$3"
    echo "$PWD/target/$3"
}
componentize leveret:routing/exchange-type-plugin@0.2.0 json_field json-field.wasm
componentize leveret:routing/interceptor-plugin@0.2.0 default_header default-header.wasm
