"""The command line, as operators and their scripts meet it."""
