"""Benchmarks: programs that measure what the documentation claims, on this machine."""
