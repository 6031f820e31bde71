"""The `fraud-detect` command.

Belongs here: arguments, printed text, exit statuses, the doctor. Must not be here: rules; a command calls one function
of another package.
"""
