"""The `fraud-detect` command.

Belongs here: arguments, what is printed, exit statuses, the doctor. Must not be here: rules; a command calls one
function of another package.
"""
