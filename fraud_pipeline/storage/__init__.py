"""Tables and files of a home directory.

Belongs here: writing and reading tables, versions of their content, removal of old files. Must not be here: the
meaning of rows.
"""
