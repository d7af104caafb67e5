"""
The durable form: transaction log, snapshots, and how both restore what was acknowledged.

Knows file formats and the contract of a disk.  Refuses to know what it stores, and does no I/O of its own.
"""
