"""Flows from files: `source` finds and orders them, the others read one form each."""
