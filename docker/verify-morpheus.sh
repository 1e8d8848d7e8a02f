#!/bin/sh
# Checks Eddyline in the official Morpheus image: CPU mode, no GPU needed. Not run by the tests: it needs Docker, about
# 20 GB and access to the image. Give another image as the first argument.
#
#     docker/verify-morpheus.sh [nvcr.io/nvidia/morpheus/morpheus:v25.06.00-runtime]
#
# 1. the image's own torch, numpy and pandas stay as they are   2. `morpheus run` lists our commands
# 3. the same file gives the same table in both runtimes         4. SIGTERM: drains, exit status 0
set -eu
image=${1:-nvcr.io/nvidia/morpheus/morpheus:v25.06.00-runtime}
here=$(cd "$(dirname "$0")/.." && pwd)
docker run --rm --cap-add=sys_nice -v "$here":/eddyline:ro -w /workspace "$image" bash -ec '
cp -r /eddyline /tmp/eddyline && cd /tmp/eddyline
pip freeze | grep -iE "^(torch|numpy|pandas|pyarrow|numba)==" | tee /tmp/before
pip freeze | grep -v " @ " > /tmp/constraints
pip install --quiet --no-cache-dir --no-deps . torch-geometric==2.6.1
pip install --quiet --no-cache-dir -c /tmp/constraints safetensors pydantic pydantic-settings pyyaml rich psutil aiohttp
pip freeze | grep -iE "^(torch|numpy|pandas|pyarrow|numba)==" | diff /tmp/before -
morpheus run --use_cpu_only pipeline-other --help > /tmp/help
for name in from-flows flow-windows graph-construction gae-inference combine-predictions to-sinks; do
    grep -q "^ *$name " /tmp/help || { echo "morpheus run does not know $name"; exit 1; }
done
export EDDYLINE_METRICS=
eddyline simulate --sink file:///tmp/flows.parquet --hosts 100 --seconds 900
for runtime in embedded morpheus; do
    eddyline run --runtime $runtime --source file:///tmp/flows.parquet --model artifacts/gae --sink file:///tmp/$runtime
done
python - <<END
import pyarrow.dataset as ds
tables = [ds.dataset(f"/tmp/{name}/flows", format="parquet").to_table().sort_by("source_row").to_pylist()
          for name in ("embedded", "morpheus")]
assert tables[0] and tables[0] == tables[1], "the tables differ"
print(len(tables[0]), "flows, the same in both runtimes")
END
eddyline run --runtime morpheus --source netflow://127.0.0.1:2055 --model artifacts/gae --sink file:///tmp/live &
service=$!
sleep 20
eddyline replay /tmp/flows.parquet --sink netflow://127.0.0.1:2055 --speed 0
sleep 2
kill -TERM $service
wait $service
echo "SIGTERM: ended well"
'
