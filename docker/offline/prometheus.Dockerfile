# Prometheus from Debian where no image registry can be reached; for verify.sh only.
ARG BASE=debian:bookworm-slim
FROM ${BASE}
# hadolint ignore=DL3008
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends prometheus && \
    rm -rf /var/lib/apt/lists/* && install -d -o 65534 /prometheus
USER 65534
VOLUME /prometheus
ENTRYPOINT ["prometheus"]
