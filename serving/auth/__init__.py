"""Who a caller is and what it may do: keys and tokens.

Must not be here: pages and endpoints that ask for a login.
"""
