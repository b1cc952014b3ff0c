"""Heartbeats of workers and Beats, a watchdog for processes that hang, and a lock for threads."""
