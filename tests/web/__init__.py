"""What callers, providers and operators see over HTTP."""
