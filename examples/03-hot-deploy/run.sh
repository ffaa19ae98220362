#!/usr/bin/env bash
# Hot deploy from end to end: a broker runs and messages flow while an exchange type arrives,
# is replaced by a new version, and a broken file changes nothing. Leaves nothing behind.
set -euo pipefail
cd "$(dirname "$0")/../.."

say() { printf '\n# %s\n' "$1"; }
work=$(mktemp -d)
broker='' publisher=''
clean_up() {
    [ -z "$publisher" ] || kill "$publisher" 2>/dev/null || true
    [ -z "$broker" ] || { kill "$broker" 2>/dev/null && wait "$broker"; } || true
    rm -rf "$work"
}
trap clean_up EXIT

say "Building the broker, a publisher, and the exchange type x-longest-prefix of example 02"
cargo build --quiet --release
cargo build --quiet --release -p example-03-hot-deploy
cargo build --quiet --release --target wasm32-wasip2 -p example-02-exchange-type
target=${CARGO_TARGET_DIR:-target}

say "Building a second version of it, in which the SHORTEST prefix wins"
cp -r examples/02-exchange-type "$work/v2"
cp Cargo.lock "$work/v2/"
sed -i "s|path = \"../../sdk/rust\"|path = \"$PWD/sdk/rust\"|" "$work/v2/Cargo.toml"
sed -i 's|(0..=key.len()).rev()|(0..=key.len())|' "$work/v2/src/lib.rs"
(cd "$work/v2" && CARGO_TARGET_DIR="$work/target" cargo build --quiet --release --target wasm32-wasip2)

say "Starting a broker that has no such exchange type"
mkfifo "$work/log"
"$target/release/leveret" --listen 127.0.0.1:0 --http-listen none --data-dir "$work/data" 2>"$work/log" &
broker=$!
exec 3<"$work/log"
while read -r line <&3; do
    case $line in *"listening on "*) address=${line##*listening on }; address=${address%% *}; break ;; esac
done
cat <&3 >"$work/broker.log" &

say "Publishing to an exchange of type x-longest-prefix, as soon as there is one"
mkfifo "$work/changes"
AMQP_URL="amqp://guest:guest@$address/%2f" "$target/release/example-03-hot-deploy" >"$work/changes" &
publisher=$!
exec 4<"$work/changes"
# Shows what the publisher prints up to a line that contains the word.
show_until() {
    while read -r line <&4; do
        echo "$line"
        case $line in *"$1"*) return ;; esac
    done
    echo "the publisher ended early" >&2
    exit 1
}
show_until "waiting"

say "Copying version 1 into the plugins folder"
cp "$target/wasm32-wasip2/release/example_02_exchange_type.wasm" "$work/data/plugins/prefix.wasm"
show_until "now go to"

say "Copying a broken file over it: version 1 keeps serving"
head -c 1000 "$work/target/wasm32-wasip2/release/example_02_exchange_type.wasm" >"$work/data/plugins/prefix.wasm"
show_until "still go to"

say "Copying version 2 over it"
cp "$work/target/wasm32-wasip2/release/example_02_exchange_type.wasm" "$work/data/plugins/prefix.wasm"
show_until "now go to"
show_until "received"

say "What the broker said about it"
grep 'plugin' "$work/broker.log"
