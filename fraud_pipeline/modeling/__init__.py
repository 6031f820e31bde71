"""From labelled feature rows to a model directory and its evaluation.

Belongs here: labels and split, tuning, training, calibration, the model directory, metrics, leakage checks, the model
card. Must not be here: orchestration, the registry, plots, live traffic.
"""
