"""Eddyline: live NetFlow in, one calibrated anomaly score on every flow out."""

__version__ = "0.1.0"
