"""How the champion does by now.

Belongs here: drift, performance by matured labels, missed fraud, the audit for skew; pure functions over frames. Must
not be here: schedules, pictures, alarms.
"""
