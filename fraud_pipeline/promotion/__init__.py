"""Which model serves: the gate, the registry and the exported champion.

Belongs here: the judgement on a challenger, versions and aliases, exporting them. Must not be here: training, scoring.
"""
