"""The dashboard: Streamlit pages about the running system, behind the tokens of the HTTP service.

Belongs here: content of pages and actions of buttons. Must not be here: SQL (`fraud_pipeline/database`), the rules of
alerts (`fraud_pipeline/alerts/queue.py`), the registry (called through `fraud-detect`, as a person would).

One module per page; each has `show(session)`.
"""
