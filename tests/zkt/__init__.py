"""The command line C{zkt}."""
