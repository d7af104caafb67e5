"""
Where bytes, time and disk come in: thin Twisted protocols, factories and the real disk.

Knows transports.  Refuses to decide anything about the state.
"""
