"""The stand-in provider, over real sockets."""
