"""
The replicated state: znodes, sessions, watches, quotas, and what a request does to them.

Knows transactions and answers.  Refuses to know of sockets, files, clocks, and that it may be replicated.
"""
