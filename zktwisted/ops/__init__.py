"""
Views for operators: the commands, and the four-letter words that carry them.

Knows how a running server looks.  Refuses to change it other than by calls of the server.
"""
