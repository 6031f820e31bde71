"""Charts, their pictures, and report pages: one Vega-Lite chart is a dashboard's figure and a report's PNG.

Belongs here: figures in, charts, PNG or HTML out. Must not be here: computation of the figures.
"""
