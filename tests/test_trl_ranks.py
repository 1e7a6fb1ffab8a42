"""TRL's trainer on two ranks (gloo): they choose what one chooses, and they stop together.

Importing TRL takes most of the time, so one pair of processes does both.
"""

import json

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra (torch)")
pytest.importorskip("trl", reason="needs the dev extra (trl)")

from tests.ranks import ranks  # noqa: E402
from tests.test_trl_adapter import CLIP, by_hand, trainer  # noqa: E402

pytestmark = pytest.mark.filterwarnings("default")  # what TRL and transformers warn of is theirs

RANK = """
import json, sys, warnings
warnings.simplefilter("ignore")
import torch
from trl import GRPOTrainer
from entlaw.engines.law_callback import EntlawCallback
from tests.test_trl_adapter import CLIP, by_hand, trainer

folder, one = sys.argv[1], {"gradient_accumulation_steps": 1}
t = trainer(micro=4, folder=folder, controls=CLIP, options=one)
rank = t.accelerator.process_index
assert t.accelerator.num_processes == 2
t.model.train()
part = by_hand(slice(4 * rank, 4 * rank + 4))
t._choose([part])
torch.save(part["entlaw_chosen"]["clip_cov"], f"{folder}/{rank}.pt")

t = trainer(GRPOTrainer, micro=4, steps=20, folder=folder, options=one)
assert t.accelerator.num_processes == 2
EntlawCallback("step > 8").add_to(t)
t.train()
law = sum(any(k.startswith("entlaw/") for k in row) for row in t.state.log_history)
open(f"{folder}/rank{rank}.json", "w").write(json.dumps([t.state.global_step, law]))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where both ranks have left what they chose and where they stopped."""
    made = tmp_path_factory.mktemp("trl-ranks")
    (made / "rank.py").write_text(RANK)
    for code, told in ranks(made / "rank.py", made):
        assert code == 0, told[-2000:]
    return made


def test_two_ranks_choose_what_one_chooses(folder, tmp_path):
    """Their responses differ in length."""
    t = trainer(folder=tmp_path, controls=CLIP)
    t.model.train()
    part = by_hand()
    t._choose([part])
    alone = part["entlaw_chosen"]["clip_cov"]
    assert 0 < int(alone.sum()) < int(part["completion_mask"].sum())
    for rank in (0, 1):
        mine = torch.load(folder / f"{rank}.pt")
        assert torch.equal(mine, alone[4 * rank : 4 * rank + 4, : mine.shape[1]])
        assert not alone[4 * rank : 4 * rank + 4, mine.shape[1] :].any()


def test_two_ranks_stop_together(folder):
    """The first decides."""
    (one, law_of_one), (other, law_of_other) = (
        json.loads((folder / f"rank{rank}.json").read_text()) for rank in (0, 1)
    )
    assert one == other and 8 < one < 20
    assert law_of_one > 0 and law_of_other == 0
