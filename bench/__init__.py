"""Measures the server beside Java's: a load generator in C, and the Python that runs it and writes the report."""
