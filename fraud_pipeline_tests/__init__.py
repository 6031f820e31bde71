"""The tests; they share what conftest.py builds."""
