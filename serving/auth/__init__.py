"""Keys and tokens: they identify a caller and define what it may do.

Must not be here: pages and endpoints that ask for a login.
"""
