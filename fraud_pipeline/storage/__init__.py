"""Delta tables and files, on this machine or in an object store.

Belongs here: writing and reading tables, versions of their content, removal of old files. Must not be here: the
meaning of rows.
"""
