"""The guided graph autoencoder: model, node features, and its parity with the published one."""
