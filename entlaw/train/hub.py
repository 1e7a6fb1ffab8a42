"""Models from folders and from the Hugging Face hub, and what to tell when there is none to be had.

The libraries behind it raise what they like, wrapped several times; what went wrong is looked for in the whole chain.
"""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from entlaw.errors import EntlawError, MissingExtra, OutOfMemory, SourceNotFound, UnreadableSource, closest
from entlaw.train.footprint import is_out_of_memory

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
"""What the hub accepts as a repository; anything else can only be a folder."""

_LOCAL = "copy the model to this machine and give its folder in policy.path"
_WANTED = "policy.path wants a folder with config.json, weights and tokenizer, or OWNER/NAME on the hub"
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")


def load_config(path: str) -> PretrainedConfig:
    """A model's configuration.

    Raises
    ------
    SourceNotFound, UnreadableSource, MissingExtra
        No such model, no access to it, or none that can be used.
    """
    from transformers import AutoConfig

    folder = Path(path)
    if folder.is_dir():
        check_model_folder(folder)
    elif not HUB_ID.fullmatch(path):
        raise SourceNotFound("there is no such folder, and this cannot be a hub id", where=path, hint=_WANTED)
    try:
        return AutoConfig.from_pretrained(path)
    except Exception as error:
        raise explain(error, path, "no causal language model") from error


def load_tokenizer(path: str) -> PreTrainedTokenizerBase:
    """A model's tokenizer; raises as :func:`load_config`."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(path)
    except Exception as error:
        raise explain(error, path, "no tokenizer") from error


def load_model(path: str, dtype: torch.dtype) -> PreTrainedModel:
    """A causal language model with all its weights; raises as :func:`load_config`.

    transformers fills weights that are missing with random numbers and says so in a warning: here that is an error.
    """
    from transformers import AutoModelForCausalLM

    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(path, dtype=dtype, output_loading_info=True)
    except Exception as error:
        raise explain(error, path, "no causal language model") from error
    model: PreTrainedModel = loaded[0]
    missing = sorted(loaded[1]["missing_keys"])
    if missing:
        raise UnreadableSource(
            f"no causal language model can be loaded from here: {len(missing)} of its tensors are missing",
            where=path,
            why=f"{', '.join(missing[:3])}{' ...' if len(missing) > 3 else ''}: they would be random numbers",
            hint="copy or download the weights again; a base model without its head cannot be trained as it is",
        )
    return model


# Folders ---------------------------------------------------------------------------------------------


def check_model_folder(folder: Path) -> None:
    """Tell what a folder lacks to be a model, before any library stumbles over it.

    Raises
    ------
    UnreadableSource
    """
    where = str(folder)
    if not (folder / "config.json").is_file():
        raise UnreadableSource(
            "no causal language model can be loaded from here: there is no config.json",
            where=where,
            why=_instead(folder),
            hint=_instead_hint(folder),
        )
    weights = [file for pattern in _WEIGHTS for file in folder.glob(pattern)]
    if not weights:
        gguf = next(folder.glob("*.gguf"), None)
        raise UnreadableSource(
            "no causal language model can be loaded from here: the folder holds no weights",
            where=where,
            why=f"it holds {gguf.name}, which is for inference only"
            if gguf
            else "there is no *.safetensors file",
            hint=_from_gguf(gguf) if gguf else "copy or download the weights into it",
        )
    for index in folder.glob("*.index.json"):
        if lacking := _lacking(index):
            raise UnreadableSource(
                f"no causal language model can be loaded from here: {len(lacking)} files of weights are missing",
                where=where,
                why=f"{index.name} names {', '.join(lacking[:3])}{' ...' if len(lacking) > 3 else ''}",
                hint="finish copying or downloading the weights",
            )
    for file in weights:
        _whole(file)


def _instead(folder: Path) -> str:
    """What there is in place of a model."""
    if (folder / "adapter_config.json").is_file():
        return "it holds an adapter (LoRA), which is a change of a model and not a model"
    if gguf := next(folder.glob("*.gguf"), None):
        return f"it holds {gguf.name}: weights in a format for inference, without config.json"
    if (folder / "recipe.toml").is_file():
        return "it is the folder of a training run"
    found = sorted(p.name for p in folder.iterdir())
    return f"it holds {', '.join(found[:5])}{' ...' if len(found) > 5 else ''}" if found else "it is empty"


def _instead_hint(folder: Path) -> str:
    if (folder / "adapter_config.json").is_file():
        return "merge it into its model first (merge_and_unload of peft) and give the merged model's folder"
    if gguf := next(folder.glob("*.gguf"), None):
        return _from_gguf(gguf)
    if (folder / "recipe.toml").is_file():
        newest = sorted(folder.glob("checkpoint-*"))[-1:]
        return f"give {newest[0] / 'policy' if newest else folder / 'checkpoint-N' / 'policy'}"
    return _WANTED


def _from_gguf(file: Path) -> str:
    return (
        "turn it into a folder of weights first: AutoModelForCausalLM and AutoTokenizer, each by "
        f".from_pretrained({str(file.parent)!r}, gguf_file={file.name!r}).save_pretrained(FOLDER)"
    )


def _lacking(index: Path) -> list[str]:
    """Files that an index of weights names and that are not there."""
    try:
        named = set(json.loads(index.read_text("utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return []
    return sorted(str(name) for name in named if not (index.parent / str(name)).is_file())


def _whole(file: Path) -> None:
    """Refuse a file of weights that is a pointer of Git LFS, cut off, or damaged at its beginning.

    Raises
    ------
    UnreadableSource
    """
    with file.open("rb") as stream:
        start = stream.read(64)
    if start.startswith(b"version https://git-lfs"):
        raise UnreadableSource(
            f"no causal language model can be loaded from here: {file.name} is a pointer of Git LFS, not the weights",
            where=str(file.parent),
            why="the repository was cloned without its large files",
            hint="run `git lfs pull` there, or `hf download OWNER/NAME --local-dir FOLDER`",
        )
    if file.suffix != ".safetensors":
        return
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="np") as opened:
            opened.keys()  # reading the header is what may fail
    except (SafetensorError, OSError, ValueError) as error:
        raise UnreadableSource(
            f"no causal language model can be loaded from here: {file.name} is damaged",
            where=str(file.parent),
            why=_first_line(error),
            hint="copy or download it again; it may have been cut off",
        ) from error


# Errors ----------------------------------------------------------------------------------------------


def chain(error: BaseException) -> Iterator[BaseException]:
    """An error, what caused it, and so on."""
    seen: BaseException | None = error
    for _ in range(30):
        if seen is None:
            return
        yield seen
        seen = seen.__cause__ or seen.__context__


def explain(error: BaseException, where: str, what: str, local: str = _LOCAL) -> EntlawError:
    """What a failure to load ``what`` (as in "no tokenizer") from ``where`` means, and what to do.

    Parameters
    ----------
    local : str
        How to do without the hub.
    """
    if isinstance(error, EntlawError):
        return error
    if is_out_of_memory(error):
        return OutOfMemory(
            "memory ran out while the model was loaded",
            where=where,
            why=_first_line(error),
            hint="see `entlaw train --check` for what it needs; a smaller model, or policy.dtype = bfloat16",
        )
    for link in chain(error):
        if isinstance(link, OSError) and link.errno in (
            errno.ENOSPC,
            errno.EDQUOT,
            errno.EROFS,
            errno.EACCES,
        ):
            return UnreadableSource(
                f"{what} can be loaded from here: {link.strerror}",
                where=where,
                why=_first_line(link),
                hint="models are kept in ~/.cache/huggingface; HF_HOME names another folder",
            )
    return (
        _of_hub(error, where, local)
        or (_of_no_tokenizer(error, where) if "token" in what else None)
        or _of_contents(error, where, what)
        or UnreadableSource(
            f"{what} can be loaded from here",
            where=where,
            why=_first_line(error),
            hint="give a folder with tokenizer.json (or a hub id) in policy.path"
            if "token" in what
            else _WANTED,
        )
    )


def _of_no_tokenizer(error: BaseException, where: str) -> EntlawError | None:
    """A folder that holds no tokenizer: what transformers misses first differs from version to version."""
    folder = Path(where)
    if not folder.is_dir() or any(
        path.is_file()
        for pattern in ("tokenizer*", "vocab*", "*.model", "*.tiktoken", "merges.txt")
        for path in folder.glob(pattern)
    ):
        return None
    return UnreadableSource(
        "no tokenizer can be loaded from here",
        where=where,
        why=f"the folder holds no file of a tokenizer ({_first_line(error)})",
        hint="give a folder with tokenizer.json (or a hub id) in policy.path",
    )


def _of_hub(error: BaseException, where: str, local: str) -> EntlawError | None:
    """Failures of the hub, worst misunderstandings first: a gated model is also "not found"."""
    if Path(where).is_dir():
        return None
    from huggingface_hub import constants, errors

    def find(kind: type[BaseException]) -> Any:
        return next((link for link in chain(error) if isinstance(link, kind)), None)

    page = f"{constants.ENDPOINT}/{where}"
    if found := find(errors.GatedRepoError):
        logged_in = _status(found) == 403
        return SourceNotFound(
            "the model is gated: its owner gives it to those who have accepted its licence",
            where=where,
            why="your token has no access to it" if logged_in else "no user is logged in here",
            hint=f"accept the licence at {page}, "
            + (
                "with the account that the token belongs to"
                if logged_in
                else "then `hf auth login` (or set HF_TOKEN)"
            )
            + f"; or {local}",
        )
    if find(errors.RepositoryNotFoundError):
        near = _near(where)
        return SourceNotFound(
            f"neither a folder here nor a model on the hub ({constants.ENDPOINT})",
            where=where,
            why="the hub gives the same answer for a private model that you may not see",
            hint=(f"nearest: {near}; " if near else "")
            + "check the name; for a private model `hf auth login`; "
            "for a folder check where you are",
        )
    offline = find(errors.OfflineModeIsEnabled) is not None or constants.HF_HUB_OFFLINE
    if offline and (find(errors.LocalEntryNotFoundError) or find(errors.OfflineModeIsEnabled)):
        return SourceNotFound(
            "the model is not in the cache, and HF_HUB_OFFLINE forbids to ask the hub",
            where=where,
            why=f"the cache is {constants.HF_HUB_CACHE}",
            hint=f"unset HF_HUB_OFFLINE; or set HF_HOME to the cache that has it; or {local}",
        )
    status = next((s for link in chain(error) if (s := _status(link)) is not None), None)
    if status is not None and status >= 400 and status != 404:
        return SourceNotFound(
            f"the hub ({constants.ENDPOINT}) answers with an error {status}",
            where=where,
            why=_first_line(find(errors.HfHubHTTPError) or error),
            hint="the token is not valid: `hf auth login`, or unset HF_TOKEN"
            if status == 401
            else f"try again later; or {local}",
        )
    if find(errors.LocalEntryNotFoundError) or find(ConnectionError) or _is_transport(error):
        return SourceNotFound(
            f"neither a folder here nor in the cache, and the hub ({constants.ENDPOINT}) cannot be reached",
            where=where,
            why=f"the cache is {constants.HF_HUB_CACHE}",
            hint=f"{local}; or set HF_HOME to a cache that has it, or HF_ENDPOINT to a mirror",
        )
    if (lost := find(errors.EntryNotFoundError)) or "does not appear to have" in str(error):
        return UnreadableSource(
            "the repository on the hub lacks a file",
            where=where,
            why=_first_line(lost or error),
            hint="it may hold an adapter, or GGUF files only: take the repository of the model itself",
        )
    return None


def _of_contents(error: BaseException, where: str, what: str) -> EntlawError | None:
    """Failures that lie in what was found."""
    for link in chain(error):
        text = str(link)
        if "trust_remote_code" in text or "contains custom code" in text:
            return UnreadableSource(
                f"{what} can be loaded from here: it needs code from its own repository",
                where=where,
                why="entlaw runs no code that comes with a model",
                hint="take a model whose architecture transformers knows",
            )
        if "Unrecognized model" in text:
            return UnreadableSource(
                f"{what} can be loaded from here: there is no config.json that names a model_type",
                where=where,
                why="so it is no model, or one in another format",
                hint="it may hold an adapter, or GGUF files only: take the repository of the model itself",
            )
        if "does not recognize this architecture" in text:
            kind = re.search(r"model type `?([\w.-]+)`?", text)
            return UnreadableSource(
                f"{what} can be loaded from here: this transformers does not know its architecture"
                + (f" ({kind[1]})" if kind else ""),
                where=where,
                why=_first_line(link),
                hint="pip install -U transformers, if the model is newer; else take another model",
            )
        if "Unrecognized configuration class" in text:
            kind = re.search(r"class '[\w.]*?(\w+)Config'", text)
            return UnreadableSource(
                f"{what} can be loaded from here: {kind[1] if kind else 'it'} does not write text left to right",
                where=where,
                why="there is no causal language model of this architecture",
                hint="take a causal language model (Llama, Qwen, Mistral, ...)",
            )
        if isinstance(link, ImportError):
            needs = re.search(
                r"requires the (\w+) library|No module named '([\w.]+)'|pip install ([\w-]+)", text
            )
            name = next((group for group in needs.groups() if group), None) if needs else None
            return MissingExtra(
                f"{what} can be loaded from here without {name or 'a package that is not installed'}",
                where=where,
                why=_first_line(link),
                hint=f"pip install {name}" if name else "see above",
            )
    return None


def _status(error: BaseException) -> int | None:
    """HTTP status of an error's response."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return int(status) if status is not None else None


def _is_transport(error: BaseException) -> bool:
    """Whether the network itself failed; the hub's client has changed its HTTP library more than once."""
    names = {cls.__name__ for link in chain(error) for cls in type(link).__mro__}
    return bool(names & {"TransportError", "ConnectError", "TimeoutException", "RequestException"})


def _near(where: str) -> str:
    from entlaw.train.footprint_shapes import known

    return ", ".join(closest(where, known(), n=1))


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]
