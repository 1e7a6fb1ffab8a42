"""The law R = -a exp(H) + b: fitting it, saying how sure one can be, and saying when it does not apply.

Knows arrays and :class:`entlaw.runs.run.Run`; never files, never torch.
"""
