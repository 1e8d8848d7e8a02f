"""Where the path runs."""
