"""What each provider says on the wire, and what it is taken to mean."""
