"""Plots and report pages.

Belongs here: figures in, PNG or HTML out. Must not be here: computation of the figures.
"""
