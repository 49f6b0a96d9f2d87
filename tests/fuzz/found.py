"""Inputs that broke a target once, by its name: each stays a test."""

from __future__ import annotations

FOUND: dict[str, list[bytes]] = {}
