"""Which format a file has: the one that reads most of its beginning.

A magic number or a place in a folder decides at once. Text does not: a console log may begin with a progress bar, a
printed chat or a configuration, each of which looks like another format. So every format of text says how many
numbers it reads from the head, and a count more than twice as large wins over a lower order. (A damaged file gives a
few more numbers to a format that salvages pieces than to its own.)
"""

from __future__ import annotations

from entlaw.findings import Finding
from entlaw.runs import plugins
from entlaw.runs.source import Head, Source
from entlaw.runs.sources import plug_ins, sources


def recognise(head: Head) -> tuple[Source | None, list[Finding]]:
    """The source that reads a file, and what is wrong with plug-ins that were asked.

    Parameters
    ----------
    head : Head

    Returns
    -------
    source : Source or None
        None if no source takes the file.
    troubles : list of Finding
    """
    troubles = list(plug_ins().troubles)
    best: Source | None = None
    most = -1
    for source in sources():
        claim = plugins.sniff(source, head) if source.plugin else source.sniff(head)
        if isinstance(claim, Finding):
            troubles.append(claim)
        elif claim is True:
            return (best if most > 0 else source), troubles
        elif claim is not False and claim > 2 * most:
            best, most = source, claim
    return best, troubles
