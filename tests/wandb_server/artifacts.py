"""Artifacts: versions of files, new only when their digest is."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.wandb_server.paging import page
from tests.wandb_server.runs import stamp
from tests.wandb_server.trouble import NotThere

if TYPE_CHECKING:
    from tests.wandb_server.reading import Answer, Variables
    from tests.wandb_server.server import WandbServer


@dataclass
class Artifact:
    """One version of an artifact."""

    id: str
    entity: str
    project: str
    name: str
    type: str
    digest: str
    version: int
    state: str = "PENDING"
    manifest: str = ""
    metadata: str = "{}"

    def contents(self, server: WandbServer) -> dict[str, bytes]:
        """Its files by name, as uploaded."""
        entries = json.loads(server.storage[self.manifest])["contents"]
        return {name: server.storage[_key(e["birthArtifactID"], name)] for name, e in entries.items()}


def _key(artifact_id: str, name: str) -> str:
    return f"artifact/{artifact_id}/{name}"


def versions(server: WandbServer, name: str) -> list[Artifact]:
    """The committed versions of an artifact, oldest first."""
    with server.lock:
        return [one for one in server.artifacts.values() if one.name == name and one.state == "COMMITTED"]


def _named(server: WandbServer, name: str) -> Artifact | None:
    """A committed version by ``name``, ``name:latest``, ``name:v0``, or its id."""
    if name in server.artifacts:
        return server.artifacts[name]
    sequence, _, alias = name.rpartition("/")[2].partition(":")
    found = versions(server, sequence)
    if alias[:1] == "v" and alias[1:].isdigit():
        found = [one for one in found if one.version == int(alias[1:])]
    return found[-1] if found else None


def _by_id(server: WandbServer, artifact_id: str) -> Artifact:
    found = server.artifacts.get(artifact_id)
    if found is None:
        raise NotThere("no such artifact")
    return found


def create(server: WandbServer, v: Variables, text: str) -> Any:
    told = v["input"]
    name = told.get("artifactCollectionName") or (told.get("artifactCollectionNames") or [""])[0]
    known = versions(server, name)
    made = next((one for one in known if one.digest == told["digest"]), None)
    with server.lock:
        if made is None:
            number = base64.b64encode(f"Artifact:{len(server.artifacts)}".encode()).decode()
            made = Artifact(
                number,
                told["entityName"],
                told["projectName"],
                name,
                told["artifactTypeName"],
                told["digest"],
                len(known),
                metadata=told.get("metadata") or "{}",
            )
            server.artifacts[made.id] = made
    latest = {"id": known[-1].id, "versionIndex": known[-1].version} if known else None
    sequence = {"id": f"sequence-{name}", "latestArtifact": latest}
    return {
        "createArtifact": {"artifact": {"id": made.id, "state": made.state, "artifactSequence": sequence}}
    }


def create_manifest(server: WandbServer, v: Variables, text: str) -> Any:
    made = _by_id(server, v["artifactID"])
    made.manifest = f"manifest/{made.id}"
    return {"createArtifactManifest": {"artifactManifest": _manifest(server, made)}}


def update_manifest(server: WandbServer, v: Variables, text: str) -> Any:
    made = _by_id(server, v["artifactManifestID"].removeprefix("manifest-"))
    return {"updateArtifactManifest": {"artifactManifest": _manifest(server, made)}}


def _manifest(server: WandbServer, made: Artifact) -> dict[str, Any]:
    file = {
        "id": f"file-{made.id}",
        "uploadUrl": f"{server.url}/storage/{made.manifest}",
        "uploadHeaders": [],
    }
    return {"id": f"manifest-{made.id}", "file": file}


def create_files(server: WandbServer, v: Variables, text: str) -> Any:
    edges: list[dict[str, Any]] = []
    for one in v["input"]["artifactFiles"]:
        key = _key(one["artifactID"], one["name"])
        edges.append(
            {
                "node": {
                    "storagePath": key,
                    "uploadUrl": f"{server.url}/storage/{key}",
                    "uploadHeaders": [],
                    "uploadMultipartUrls": None,
                    "artifact": {"id": one["artifactID"]},
                }
            }
        )
    return {"createArtifactFiles": {"files": {"edges": edges}}}


def commit(server: WandbServer, v: Variables, text: str) -> Any:
    made = _by_id(server, v["artifactID"])
    made.state = "COMMITTED"
    return {"commitArtifact": {"artifact": {"id": made.id, "digest": made.digest}}}


def use(server: WandbServer, v: Variables, text: str) -> Any:
    return {"useArtifact": {"artifact": {"id": v["input"]["artifactID"]}}}


def type_of(server: WandbServer, v: Variables, text: str) -> Any:
    found = _named(server, v["name"])
    return {"project": {"artifact": None if found is None else {"artifactType": {"name": found.type}}}}


def by_id(server: WandbServer, v: Variables, text: str) -> Any:
    found = server.artifacts.get(v["id"])
    return {"artifact": None if found is None else _shown(server, found)}


def by_name(server: WandbServer, v: Variables, text: str) -> Any:
    found = _named(server, v["name"])
    return {"project": {"artifact": None if found is None else _shown(server, found)}}


def membership(server: WandbServer, v: Variables, text: str) -> Any:
    found = _named(server, v["name"])
    if found is None:
        return {"project": {"artifactCollectionMembership": None}}
    shown = _shown(server, found)
    aliases = [{key: one[key] for key in ("__typename", "id", "alias")} for one in shown["aliases"]]
    return {
        "project": {
            "artifactCollectionMembership": {
                "__typename": "ArtifactCollectionMembership",
                "id": "m",
                "versionIndex": found.version,
                "createdAt": stamp(1.7e9),
                "aliases": aliases,
                "artifactCollection": shown["artifactSequence"],
                "artifact": shown,
            }
        }
    }


def manifest(server: WandbServer, v: Variables, text: str) -> Any:
    made = _by_id(server, v.get("artifact_id") or v["id"])
    file = {"directUrl": f"{server.url}/storage/{made.manifest}"}
    return {"artifact": {"currentManifest": {"file": file}}}


def file_urls(server: WandbServer, v: Variables, text: str) -> Any:
    found = _named(server, f"{v['collection']}:{v['alias']}")
    if found is None:
        return {"project": {"artifactCollection": None}}
    entries = json.loads(server.storage[found.manifest])["contents"]
    nodes = [
        {
            "__typename": "File",
            "name": name,
            "directUrl": f"{server.url}/storage/{_key(e['birthArtifactID'], name)}",
        }
        for name, e in entries.items()
    ]
    files = page(nodes, v.get("cursor"), v.get("perPage"))
    held = {"__typename": "ArtifactSequence", "artifactMembership": {"files": files}}
    return {"project": {"artifactCollection": held}}


def _shown(server: WandbServer, made: Artifact) -> dict[str, Any]:
    number = base64.b64encode(b"Project:1").decode()
    project = {"id": "p", "internalId": number, "name": made.project, "entity": {"name": made.entity}}
    place = {"__typename": "ArtifactSequence", "name": made.name, "project": project}
    latest = versions(server, made.name)[-1:] == [made]
    alias = {"__typename": "ArtifactAlias", "id": "a", "alias": "latest", "artifactCollection": place}
    return {
        "__typename": "Artifact",
        "id": made.id,
        "artifactSequence": place,
        "versionIndex": made.version,
        "artifactType": {"name": made.type},
        "description": None,
        "metadata": made.metadata,
        "ttlDurationSeconds": -1,
        "ttlIsInherited": True,
        "tags": [],
        "historyStep": None,
        "state": made.state,
        "size": 1,
        "digest": made.digest,
        "commitHash": "c",
        "fileCount": 1,
        "createdAt": stamp(1.7e9),
        "updatedAt": None,
        "aliases": [alias] if latest else [],
    }


ANSWERS: dict[str, Answer] = {
    "CreateArtifact": create,
    "CreateArtifactManifest": create_manifest,
    "UpdateArtifactManifest": update_manifest,
    "CreateArtifactFiles": create_files,
    "CommitArtifact": commit,
    "UseArtifact": use,
    "ArtifactType": type_of,
    "ArtifactByID": by_id,
    "ArtifactByName": by_name,
    "ArtifactMembershipByName": membership,
    "ArtifactManifest": manifest,
    "FetchArtifactManifest": manifest,
    "GetArtifactMembershipFileUrls": file_urls,
}
