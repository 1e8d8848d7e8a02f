"""The path as stages of an NVIDIA Morpheus pipeline; importing this imports no Morpheus."""
