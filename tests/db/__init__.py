"""The database seam and its SQLite side."""
