"""Stages of Morpheus: their steps without it, and the real pipeline on a stand-in of its C++ parts."""
