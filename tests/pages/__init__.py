"""The pages as people see them: a real Chromium before the real service."""
