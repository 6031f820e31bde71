"""Learn which card transactions are fraud, keep the model honest, decide on new ones.

Importing this package imports nothing else, so that serving starts fast and the domain stays free of orchestration.
"""
