"""What is told when a model cannot be had: the hub's real client against a misbehaving server; damaged folders."""

import http.server
import json
import os
import subprocess
import sys
import threading
import time

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from entlaw.errors import DataError, MissingExtra, OutOfMemory, SourceNotFound, UnreadableSource  # noqa: E402
from entlaw.train import hub, ladder, policy  # noqa: E402
from entlaw.train.schema import Policy  # noqa: E402

ANSWERS = {
    "gated": (401, {"X-Error-Code": "GatedRepo"}),
    "refused": (403, {"X-Error-Code": "GatedRepo"}),
    "absent": (404, {"X-Error-Code": "RepoNotFound"}),
    "hidden": (401, {"X-Error-Code": "RepoNotFound"}),
    "failing": (500, {}),
    "token": (401, {"X-Error-Message": "Invalid credentials in Authorization header"}),
    "adapter": (404, {"X-Error-Code": "EntryNotFound"}),
}


class Hub(http.server.BaseHTTPRequestHandler):
    """Answers as the hub does, by the name of the repository."""

    def answer(self):
        status, headers = next(
            (a for name, a in ANSWERS.items() if f"/{name}" in self.path.lower()), ANSWERS["absent"]
        )
        self.send_response(status)
        for key, value in (headers | {"Content-Length": "0"}).items():
            self.send_header(key, value)
        self.end_headers()

    do_GET = do_HEAD = do_POST = answer

    def log_message(self, *_):
        """Quiet."""


@pytest.fixture(scope="module")
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


@pytest.fixture
def ask(server, tmp_path, monkeypatch):
    """Load a model through the real client, which thinks that ``server`` is the hub."""
    from huggingface_hub import constants

    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.removeprefix(constants.ENDPOINT)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(
        time, "sleep", lambda seconds: None
    )  # the client waits half a minute between its tries

    def load(name, endpoint=server, offline=False):
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
        with pytest.raises(DataError) as caught:
            policy.load(name, Policy(path=name), torch.device("cpu"))
        assert caught.value.where == name and caught.value.exit_code == 3 and caught.value.hint
        return caught.value

    return load


CASES = {
    "gated": ("o/gated", SourceNotFound, ["gated", "licence", "hf auth login", "/o/gated", "folder"]),
    "gated, logged in": ("o/refused", SourceNotFound, ["gated", "your token has no access", "account"]),
    "no such model": (
        "o/absent",
        SourceNotFound,
        ["neither a folder here nor a model on the hub", "private"],
    ),
    "private or none": (
        "o/hidden",
        SourceNotFound,
        ["neither a folder here nor a model on the hub", "hf auth login"],
    ),
    "misspelled": ("Qwen/Qwen2.5-7", SourceNotFound, ["nearest: Qwen/Qwen2.5-7B"]),
    "server error": ("o/failing", SourceNotFound, ["error 500", "try again later", "policy.path"]),
    "bad token": ("o/token", SourceNotFound, ["error 401", "token is not valid", "hf auth login"]),
    "no config": ("o/adapter", UnreadableSource, ["no config.json", "adapter", "GGUF"]),
}


@pytest.mark.parametrize("case", CASES)
def test_what_the_hub_answers_is_told_in_words(ask, case):
    name, kind, said = CASES[case]
    error = ask(name)
    assert type(error) is kind
    for words in said:
        assert words in str(error), (words, str(error))


def test_no_server_at_all(ask):
    error = ask("o/model", endpoint="http://127.0.0.1:9")
    for words in ("cannot be reached", "policy.path", "HF_HOME", "HF_ENDPOINT", "folder"):
        assert words in str(error)


def test_offline_by_the_users_wish(ask):
    error = ask("o/model", offline=True)
    for words in ("HF_HUB_OFFLINE", "cache", "policy.path"):
        assert words in str(error)


def test_the_command_line_in_an_environment_of_its_own(server, tmp_path):
    """No monkeypatch anywhere: HF_ENDPOINT, a gated model, exit code 3, no traceback."""
    environment = os.environ | {"HF_ENDPOINT": server, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": ""}
    done = subprocess.run(
        [sys.executable, "-m", "entlaw.cli", "train", "--set", "policy.path=o/gated", "-o", "run", "--json"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 3, done.stderr
    assert "hf auth login" in done.stderr and "Traceback" not in done.stderr
    assert json.loads(done.stdout)["error"] == "SourceNotFound"


# Folders ---------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    """A whole model, to be damaged."""
    settings = Policy(size="xs")
    tokenizer = ladder.build_tokenizer()
    model = ladder.build_model(settings, len(tokenizer), tokenizer.eos_token_id, tokenizer.pad_token_id)
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def refused(folder, kind=UnreadableSource):
    with pytest.raises(kind) as caught:
        policy.load(folder, Policy(), torch.device("cpu"))
    assert caught.value.hint
    return str(caught.value)


def test_the_folder_is_good_before_it_is_damaged(folder):
    assert policy.load(folder, Policy(), torch.device("cpu")).parameters > 10_000


def test_a_folder_without_configuration_says_what_it_holds_instead(folder):
    (folder / "config.json").unlink()
    assert "no config.json" in refused(folder) and "model.safetensors" in refused(folder)
    (folder / "model-q4.gguf").write_bytes(b"GGUF")
    assert "gguf_file='model-q4.gguf'" in refused(folder)
    (folder / "adapter_config.json").write_text("{}")
    assert "adapter" in refused(folder) and "merge" in refused(folder)


def test_the_folder_of_a_run_names_its_checkpoint(tmp_path):
    (tmp_path / "recipe.toml").write_text("")
    (tmp_path / "checkpoint-00000008").mkdir()
    assert "checkpoint-00000008" in refused(tmp_path) and "training run" in refused(tmp_path)


def test_an_empty_folder(tmp_path):
    assert "it is empty" in refused(tmp_path)


def test_a_folder_without_weights(folder):
    (folder / "model.safetensors").unlink()
    assert "no weights" in refused(folder)
    (folder / "x.gguf").write_bytes(b"GGUF")
    assert "gguf_file='x.gguf'" in refused(folder)


def test_a_pointer_of_git_lfs_in_place_of_weights(folder):
    (folder / "model.safetensors").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    )
    assert "git lfs pull" in refused(folder)


@pytest.mark.parametrize("keep", [0, 4, 100, -1000])
def test_weights_that_were_cut_off(folder, keep):
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:keep])
    assert "model.safetensors is damaged" in refused(folder)


def test_weights_that_are_noise(folder):
    (folder / "model.safetensors").write_bytes(bytes(range(256)) * 40)
    assert "model.safetensors is damaged" in refused(folder)


def test_a_shard_that_is_not_there(folder):
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "model-00001-of-00002.safetensors" in refused(folder)


def test_weights_that_lack_a_tensor_are_refused_and_not_made_up(folder):
    """transformers only warns, and trains random numbers."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    dropped = next(name for name in tensors if "mlp" in name)
    del tensors[dropped]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert dropped in refused(folder) and "random" in refused(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_type": "transformer-of-2031"}, "transformer-of-2031"),
        ({"model_type": "t5"}, "does not write text left to right"),
        ({"model_type": None}, "model_type"),
        ({"auto_map": {"AutoConfig": "c.C", "AutoModelForCausalLM": "m.M"}, "model_type": "own"}, "code"),
    ],
)
def test_architectures_that_cannot_be_trained(folder, change, said):
    file = folder / "config.json"
    config = {k: v for k, v in (json.loads(file.read_text()) | change).items() if v is not None}
    file.write_text(json.dumps(config))
    assert said in refused(folder)


def test_a_configuration_that_is_no_json(folder):
    (folder / "config.json").write_text('{"model_type": ')
    assert "no causal language model can be loaded" in refused(folder)


def test_causes_are_found_however_deep():
    def wrapped(error):
        try:
            try:
                raise error
            except type(error) as inner:
                raise OSError("something went wrong") from inner
        except OSError as outer:
            return outer

    full = hub.explain(wrapped(OSError(28, "No space left on device")), "o/m", "no tokenizer")
    assert "No space left" in full.what and "HF_HOME" in full.hint
    missing = hub.explain(wrapped(ImportError("No module named 'sentencepiece'")), "o/m", "no tokenizer")
    assert isinstance(missing, MissingExtra) and missing.hint == "pip install sentencepiece"
    assert isinstance(hub.explain(wrapped(MemoryError()), "o/m", "no tokenizer"), OutOfMemory)
    assert hub.explain(full, "x", "no tokenizer") is full
