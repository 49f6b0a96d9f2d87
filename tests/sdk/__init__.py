"""Backends with their own SDKs, unmodified, against the running service."""
