"""Pages of connections, as GraphQL lists things."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any


def page(nodes: Sequence[Any], cursor: Any, size: int | None) -> dict[str, Any]:
    """One page of a connection; a cursor is opaque to the client, and here the number of what came before."""
    at = int(base64.b64decode(cursor)) if cursor else 0
    edges = [
        {"node": node, "cursor": base64.b64encode(str(at + i + 1).encode()).decode()}
        for i, node in enumerate(nodes[at : at + (size or 50)])
    ]
    more = at + len(edges) < len(nodes)
    info = {
        "__typename": "PageInfo",
        "endCursor": edges[-1]["cursor"] if edges else None,
        "hasNextPage": more,
    }
    return {"edges": edges, "pageInfo": info, "totalCount": len(nodes)}
