"""The machine that a command runs on.

Belongs here: errors of the operating system in words, paths, ports, whether a server can be reached. Must not be here:
anything about transactions.
"""
