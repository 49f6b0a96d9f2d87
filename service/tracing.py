"""Traces for OpenTelemetry, where its packages are installed."""
