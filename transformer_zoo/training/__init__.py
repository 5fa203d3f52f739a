"""Loop, loss, optimizer, schedule, checkpoints, processes and logging; no model family but in `translation`."""
