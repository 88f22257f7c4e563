"""Monitoring: how far the newest sessions are from the champion's training rows, and how far is unusual."""
