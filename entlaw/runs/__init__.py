"""Reading run logs: whatever a trainer wrote, as :class:`entlaw.runs.run.Run`."""
