"""Compiled statistics over flat arrays of integers.

Belongs here: functions of arrays that Numba compiles. Must not be here: names of features, frames, settings.
"""
