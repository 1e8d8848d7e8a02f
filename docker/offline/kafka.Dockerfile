# A broker where no image registry can be reached: Debian's Java and Apache Kafka's jars, which tests/kafka/broker.py has
# fetched. Takes the same settings as apache/kafka, as far as compose.yaml needs them; for verify.sh only.
ARG BASE=debian:bookworm-slim
FROM ${BASE}
# hadolint ignore=DL3008
RUN install -d /usr/share/man/man1 && apt-get update -qq && \
    apt-get install -y -qq --no-install-recommends openjdk-17-jre-headless && \
    rm -rf /var/lib/apt/lists/*
RUN useradd --system --uid 10002 kafka && install -d -o kafka -g kafka /var/lib/kafka/data
COPY jars /opt/kafka/libs
COPY kafka /usr/local/bin/kafka
USER 10002
VOLUME /var/lib/kafka/data
ENTRYPOINT ["kafka"]
