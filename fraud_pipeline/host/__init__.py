"""The machine that a command runs on.

Belongs here: texts for errors of the operating system, paths, ports, reachability of servers. Must not be here:
anything about transactions.
"""
