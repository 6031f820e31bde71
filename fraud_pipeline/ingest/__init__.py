"""From source files to accepted rows, day by day.

Belongs here: sources, file formats, column mapping, parsing of cells, validation, the plan of days. Must not be here:
features, models, orchestration, and changes of accepted values.
"""
