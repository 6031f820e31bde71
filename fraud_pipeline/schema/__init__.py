"""What a transaction and a fraud report are.

Belongs here: the fields, their types and limits, the rules of ids and amounts, joins by id. Must not be here: files,
features, models, databases; this package imports no other one.
"""
