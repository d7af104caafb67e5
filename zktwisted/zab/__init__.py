"""
Agreement: who leads, what comes next, who has it.

Pure machines: values in, values out.  Knows no socket, no clock, no file and no znode.
"""
