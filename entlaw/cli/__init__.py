"""The command line: thin. Parse, call the library, print."""
