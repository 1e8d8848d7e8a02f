"""Flows from Kafka: `source` reads one partition, `records` what a record holds."""
