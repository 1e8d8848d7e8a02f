# Eddyline in NVIDIA's Morpheus 25.06 (NGC login needed). Written from its documentation; not built or run by us yet.
#   docker build -f docker/morpheus.Dockerfile -t eddyline:morpheus .
#   docker run --rm --gpus=all --cap-add=sys_nice --stop-timeout 120 eddyline:morpheus eddyline run --runtime morpheus …
# Whatever the image has stays at its version (torch, numpy, pandas, numba, …); what it lacks is added.
ARG BASE=nvcr.io/nvidia/morpheus/morpheus:v25.06.00-runtime
FROM ${BASE}
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
WORKDIR /opt/eddyline
COPY pyproject.toml README.md LICENSE ./
COPY src src
# `activate` reads variables that may be unset.
RUN set +u && source activate morpheus && set -u && pip list --format=freeze >/tmp/theirs.txt && \
    pip install -q --no-cache-dir -c /tmp/theirs.txt torch-geometric==2.6.1 . && rm -rf /tmp/theirs.txt build && \
    python -c "import eddyline.cli, eddyline.runtimes.embedded"
COPY artifacts artifacts
RUN useradd --uid 10001 --create-home eddyline && install -d -o eddyline -g eddyline /data
ENV HOME=/home/eddyline NUMBA_CACHE_DIR=/tmp/eddyline-compiled EDDYLINE_METRICS=0.0.0.0:9108
USER 10001
VOLUME /data
EXPOSE 2055/udp 9108/tcp
# The image's own entry point stays: it activates its environment, then runs the command.
CMD ["eddyline", "run", "--runtime", "morpheus", "--source", "netflow://:2055", "--sink", "stdout:", "file:///data"]
