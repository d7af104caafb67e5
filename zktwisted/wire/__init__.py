"""
Bytes to records and back: the client protocol, the transactions, the frames.

Knows formats.  Keeps no state, and refuses to know who sent the bytes or what becomes of them.
"""
