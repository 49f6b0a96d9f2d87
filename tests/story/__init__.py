"""Whole paths through the service, and what becomes of them when anything breaks."""
