#!/usr/bin/env bash
# Builds the image and tries it for real, with Docker or podman: `make docker-test`.
#
#   1. the image alone, hardened: listens, is ready, scores a v9 export, ends on SIGTERM and has lost nothing
#   2. the benchmark that it prints
#   3. compose.yaml: broker, collector, two scoring replicas, two simulated sites; every flow scored once
#
# Variables, for places that differ (offline/README.md has those for a machine without an image registry):
#   ENGINE, COMPOSE     docker or podman, and its compose; found by themselves
#   BUILD_FLAGS         more flags for `build`, such as --build-arg BASE=…
#   SERVICES            of compose.yaml, where not all images can be had; all but profiles if not given
#   PORT, METRICS_PORT  free UDP and TCP ports of this machine
set -euo pipefail
cd "$(dirname "$0")/.."
docker info >/dev/null 2>&1 && found=docker || found=podman
read -ra engine <<<"${ENGINE:-$found}"
read -ra compose <<<"${COMPOSE:-${engine[0]} compose}"
read -ra build_flags <<<"$(tr '\n' ' ' <<<"${BUILD_FLAGS:-}")"
read -ra services <<<"${SERVICES:-}"
port=${PORT:-12055} metrics_port=${METRICS_PORT:-19108}
export IMAGE=${IMAGE:-eddyline} NETFLOW_PORT=$port DEMO_SIMULATED_SECONDS=600
name=eddyline-verify
project=(-p "$name" -f docker/compose.yaml)
work=$(mktemp -d)
export SECRETS=$work

say() { printf '\n== %s\n' "$*"; }
fail() { printf 'FAILED: %s\n' "$*" >&2; exit 1; }
now() { date +%s.%N; }
since() { awk -v a="$1" -v b="$(now)" 'BEGIN { printf "%.1f", b - a }'; }
inside() { "${engine[@]}" run --rm -i --entrypoint python "$@"; } # a script from standard input, in the image
clean() {
  "${engine[@]}" rm -f "$name" >/dev/null 2>&1 || true
  "${engine[@]}" volume rm "$name" >/dev/null 2>&1 || true
  "${compose[@]}" "${project[@]}" --profile demo down -v >/dev/null 2>&1 || true
  rm -rf "$work"
}
command -v "${engine[0]}" >/dev/null || fail "neither Docker nor podman is here"
trap clean EXIT
# wait_for SECONDS COMMAND…: until it succeeds
wait_for() {
  local until=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < until)) || return 1
    sleep 0.1
  done
}
ready() { curl -fsS -m 2 -o /dev/null "http://127.0.0.1:$metrics_port/ready" 2>/dev/null; }
used() { # by tini's child, seconds
  "${engine[@]}" exec "$name" sh -c "awk '\$4 == 1 { print (\$14 + \$15) / 100 }' /proc/[0-9]*/stat"
}
metric() {
  curl -fsS -m 5 "http://127.0.0.1:$metrics_port/metrics" | awk -v name="eddyline_$1" '$1 == name { print $2 }'
}
taken() { [ "$(metric flows_total)" = "$sent" ]; }
written() { sed -n 's/^\([0-9,]*\) flows written to .*/\1/p' | tr -d ,; }

say "build"
"${engine[@]}" build "${build_flags[@]}" -f docker/Dockerfile -t "$IMAGE" . >"$work/build.log" 2>&1 ||
  { tail -40 "$work/build.log"; fail "the image does not build"; }
"${engine[@]}" history --format '{{.Size}}	{{.CreatedBy}}' "$IMAGE" | grep -vE '^(0 ?B|0)' | cut -c1-120
"${engine[@]}" images --format '{{.Repository}}:{{.Tag}} {{.Size}}' "$IMAGE"

say "the image alone: non-root, read-only root, no capabilities, no new privileges"
began=$(now)
"${engine[@]}" run -d --name "$name" --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges \
  -v "$name:/data" -p "127.0.0.1:$port:2055/udp" -p "127.0.0.1:$metrics_port:9108" "$IMAGE" >/dev/null
wait_for 60 ready || { "${engine[@]}" logs "$name"; fail "/ready does not answer"; }
echo "ready $(since "$began") s after the start of the container, $(used) s of it on a processor"
"${engine[@]}" exec "$name" id
"${engine[@]}" exec "$name" sh -c 'touch /srv/eddyline/x 2>/dev/null' && fail "the root file system can be written"

say "600 simulated seconds as NetFlow v9 into its published port"
"${engine[@]}" run --rm --network host "$IMAGE" simulate --sink "netflow://127.0.0.1:$port?version=9" --seconds 600 \
  --speed 60 --traffic 3 --start 2026-01-06T10:00:00Z 2>&1 | tee "$work/simulate.log"
sent=$(written <"$work/simulate.log")
wait_for 20 taken || fail "$(metric flows_total) of $sent flows arrived"
curl -fsS "http://127.0.0.1:$metrics_port/ready"

say "SIGTERM"
began=$(now)
"${engine[@]}" stop -t 120 "$name" >/dev/null
echo "ended after $(since "$began") s with status $("${engine[@]}" inspect -f '{{.State.ExitCode}}' "$name")"
[ "$("${engine[@]}" inspect -f '{{.State.ExitCode}}' "$name")" = 0 ] || fail "the exit status is not 0"
"${engine[@]}" logs "$name" 2>&1 >/dev/null | tail -11
"${engine[@]}" logs "$name" 2>/dev/null >"$work/alerts"
echo "$(wc -l <"$work/alerts") lines of alerts in its log, the first:"
head -1 "$work/alerts"
scored=$(inside -v "$name:/data:ro" "$IMAGE" - <<'PYTHON'
import pyarrow.parquet as pq
flows = pq.read_table("/data/flows")
assert flows["score"].null_count == 0
print(flows.num_rows)
PYTHON
)
echo "$sent flows sent, $scored scored"
[ "$scored" = "$sent" ] || fail "flows were lost"
"${engine[@]}" rm -f "$name" >/dev/null

say "the benchmark"
"${engine[@]}" run --rm --read-only --tmpfs /tmp "$IMAGE" benchmark --quick --repeats 2 --workloads natural

say "compose: broker, collector, two scoring replicas, two simulated sites of 600 seconds"
echo '# options of the Kafka client' >"$work/kafka-client"
echo verify >"$work/grafana-password"
up() {
  "${compose[@]}" "${project[@]}" "$@" >>"$work/up.log" 2>&1 || { tail -20 "$work/up.log"; fail "compose $*"; }
}
containers() { "${engine[@]}" ps -a --format '{{.Names}}' --filter "name=$name"; }
of() { containers | grep -E "[-_]$1([-_][0-9]+)?\$"; }
answers() {
  "${engine[@]}" exec "$1" python -c "import urllib.request as u; u.urlopen('http://127.0.0.1:9108/ready')" 2>/dev/null
}
over() { [ "$("${engine[@]}" inspect -f '{{.State.Status}}' "$(of "$1")" 2>/dev/null)" = exited ]; }
up up -d "${services[@]}"
[ "$(of scorer | wc -l)" = 2 ] || fail "there are not two replicas"
for container in $(of collector) $(of scorer); do # podman before 5 does not wait for health by itself
  wait_for 240 answers "$container" || { "${engine[@]}" logs "$container" 2>&1 | tail; fail "$container is not ready"; }
done
up --profile demo up -d simulator-hq simulator-london
for site in hq london; do
  wait_for 240 over "simulator-$site" || fail "the simulator of $site: $("${engine[@]}" logs "$(of "simulator-$site")" 2>&1)"
  declare "sent_$site=$("${engine[@]}" logs "$(of "simulator-$site")" 2>&1 | written)"
done
# shellcheck disable=SC2154  # declared above
echo "sent: hq $sent_hq, london $sent_london"
inside --network "${name}_default" "$IMAGE" - "$sent_hq" "$sent_london" <<'PYTHON' || fail "not one score a flow"
"""Read the topic of scored flows, committed records only, until all are there and nothing follows for ten seconds."""
import sys
import time
from collections import Counter
import pyarrow as pa
from confluent_kafka import Consumer
sent, got = {"hq": int(sys.argv[1]), "london": int(sys.argv[2])}, Counter()
reader = Consumer({"bootstrap.servers": "kafka:9092", "group.id": "verify", "isolation.level": "read_committed",
                   "auto.offset.reset": "earliest"})
reader.subscribe(["scored"])
last, until = time.monotonic(), time.monotonic() + 300
while time.monotonic() < until and not (got == sent and time.monotonic() - last > 10):
    for record in reader.consume(100, 1):
        if record.error() is None:
            flows = pa.ipc.open_stream(record.value()).read_all()
            assert flows["score"].null_count == 0
            got[flows["site"][0].as_py()] += flows.num_rows
            last = time.monotonic()
print("scored once, read_committed:", dict(got))
sys.exit(got != sent)
PYTHON
for replica in $(of scorer); do
  echo "$replica: $("${engine[@]}" exec -i "$replica" python - <<'PYTHON'
import urllib.request
said = urllib.request.urlopen("http://127.0.0.1:9108/metrics").read().decode().splitlines()
print(*(line for line in said if line.startswith(("eddyline_scored_flows_total", "eddyline_alerts_total"))))
PYTHON
  )"
done
echo "the first alert in the log of a replica:"
for replica in $(of scorer); do "${engine[@]}" logs "$replica" 2>&1; done | grep -m1 usual || true

if [ -n "$(of prometheus || true)" ]; then
  asked() {
    curl -fsS -G http://127.0.0.1:9090/api/v1/query --data-urlencode "query=$1" | tee "$work/answer" | grep -q "\"$2\""
  }
  wait_for 60 asked 'count(up{job="eddyline"} == 1)' 3 || fail "Prometheus does not see three: $(cat "$work/answer")"
  wait_for 60 asked 'sum(eddyline_scored_flows_total)' $((sent_hq + sent_london)) || fail "$(cat "$work/answer")"
  echo "Prometheus sees three services and every scored flow"
fi

say "compose stop"
read -ra replicas <<<"$(of scorer | tr '\n' ' ')"
up stop collector scorer
for container in "$(of collector)" "${replicas[@]}"; do
  status=$("${engine[@]}" inspect -f '{{.State.ExitCode}}' "$container")
  echo "$container ended with status $status"
  [ "$status" = 0 ] || fail "$container"
done
say "everything held"
