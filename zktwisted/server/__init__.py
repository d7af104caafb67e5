"""
The joint: requests come from the edge, pass the chain of processors, and meet the tree and the store.

Knows every room below it.  Refuses to know the global reactor.
"""
