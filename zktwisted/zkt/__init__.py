"""
C{zkt}: a command line for ZooKeeper servers, Java's and ours, on top of L{zktwisted.client}.

The commands of ZooKeeper's own shell are here with their options and their output, and beside them what works on whole
trees: find, tree, copy, compare, export, watch.  Nothing here knows a server's insides.
"""
