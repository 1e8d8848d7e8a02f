"""The sum of capped surprises: how unlikely each flow is under the habits of its hosts, pair and service."""
