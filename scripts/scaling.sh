#!/usr/bin/env bash
# What two workers give on this machine: one archive, labelled by one thread, by two, by one worker of one thread, and by two.
# Needs target/debug/foramen (cargo build). Answers that are known are not computed again, so every text is another and
# workers are started anew.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
foramen="$PWD/target/debug/foramen" place=$(mktemp -d)
export FORAMEN_MODEL="$PWD/models/spine" ORT_DYLIB_PATH="${ORT_DYLIB_PATH:-$(echo "$PWD"/native/libonnxruntime.so.*)}"
trap 'kill $(jobs -p) 2>/dev/null; rm -rf "$place"' EXIT

python3 - corpus/heldout.jsonl "$place" <<'P'
import json, pathlib, sys
texts = [json.loads(line)["text"] for line in open(sys.argv[1])]
place = pathlib.Path(sys.argv[2], "in")
place.mkdir()
for file in range(40):
    with open(place / f"{file:03}.jsonl", "w") as out:
        for number in range(file * 45, (file + 1) * 45):
            text = texts[number % len(texts)].replace(": ", f": No {number} ")
            out.write(json.dumps({"id": f"R{number}", "text": text}) + "\n")
P
cd "$place"

worker() {
    : >"$1.log"
    "$foramen" worker --listen "127.0.0.1:$1" --threads 1 2>"$1.log" &
    until grep -q listening "$1.log"; do sleep 0.05; done
}
told() { printf '%-30s' "$1:"; shift; "$@" 2>&1 | sed -n 1p; }

for _ in 1 2 3; do
    told "one process, one thread" taskset -c 0 "$foramen" label in --output alone.parquet
    told "one process, two threads" taskset -c 0,1 "$foramen" label in --output alone.parquet
    for workers in 1 2; do
        rm -rf together
        urls=
        for port in $(seq 50251 $((50250 + workers))); do worker "$port"; urls+=,http://127.0.0.1:$port; done
        told "$workers worker(s), one thread each" "$foramen" label in --output together/ --workers "${urls#,}"
        kill $(jobs -p) 2>/dev/null || true
        wait 2>/dev/null || true
    done
done
