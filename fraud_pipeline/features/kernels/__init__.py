"""Compiled statistics over flat arrays.

Belongs here: functions of arrays that Numba compiles. Must not be here: names of features, frames, settings.
"""
