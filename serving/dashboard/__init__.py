"""What people look at while the system runs, as Streamlit pages behind the tokens of the HTTP service.

Belongs here: what is shown and which button does what. Must not be here: SQL (`fraud_pipeline/database`), who may do
what with an alert (`fraud_pipeline/alerts/queue.py`), the registry (asked through `fraud-detect`, as a person would).

One module per page; each has `show(here)`.
"""
