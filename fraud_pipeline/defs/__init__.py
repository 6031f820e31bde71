"""The orchestration: the only package that imports dagster.

An asset body loads, calls one function of the domain, writes and returns metadata; a rule found here is in the wrong room.
"""
