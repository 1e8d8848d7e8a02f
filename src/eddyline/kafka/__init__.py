"""Apache Kafka as this project uses it: `address` is the URL, `client` alone knows the library."""
