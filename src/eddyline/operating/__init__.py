"""What a person who runs the service asks of it: metrics, readiness, and what is wrong."""
