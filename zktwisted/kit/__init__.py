"""
The testing kit: real servers in the process of a test, for programs of any kind, and faults on request.

Who tests a program imports from L{zktwisted.testing}, or uses the fixtures of the pytest plugin; what they are made of
is here.  The kit starts servers, stands between them and their clients, and decides nothing about requests.
"""
