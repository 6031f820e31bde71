"""From somebody's files to accepted rows, day by day.

Belongs here: sources, file formats, column mapping, parsing of cells, validation, the plan of days. Must not be here:
features, models, orchestration, and whatever would change a value after it was accepted.
"""
