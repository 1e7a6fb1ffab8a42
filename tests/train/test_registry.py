"""A part registered in one place trains through a recipe; a name that nobody registered is an error everywhere."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra (torch)")

from entlaw.engines.verl import functions, mapping, names, prepare  # noqa: E402
from entlaw.errors import UsageError  # noqa: E402
from entlaw.law.interventions import interventions  # noqa: E402
from entlaw.registry import Registry  # noqa: E402
from entlaw.train import advantages as adv  # noqa: E402
from entlaw.train import estimate, losses, runner, update  # noqa: E402
from entlaw.train import recipe as recipes  # noqa: E402
from entlaw.train.advantages import ESTIMATORS, Estimator, estimator  # noqa: E402
from entlaw.train.controls import CONTROLS, Control, Controls, control  # noqa: E402
from entlaw.train.losses import LOSSES, policy_loss  # noqa: E402
from entlaw.train.rules import check  # noqa: E402
from entlaw.train.schema import Algorithm, Loss, Prime, Recipe  # noqa: E402
from entlaw.train.settings import setting  # noqa: E402
from tests.train.common import tiny_batch, tiny_policy  # noqa: E402

TINY = [
    "policy.size=xs",
    "run.steps=2",
    "warmup.clean_steps=2",
    "warmup.noisy_steps=1",
    "warmup.batch_size=4",
    "rollout.prompts=4",
    "rollout.group_size=4",
    "loss.mini_batches=2",
    "validation.every=0",
    "algorithm.filter_groups=false",
]


@pytest.fixture
def toys(monkeypatch):
    """One of each kind, as somebody would write them in one file, and what they were called with."""
    seen: dict[str, list] = {"estimator": [], "loss": [], "choose": [], "pull": []}

    @estimator("nobody", "minus the reward")
    def toy_estimator(token_reward_BT, group_B, mask_BT, gamma=1.0):
        seen["estimator"].append(gamma)
        return -token_reward_BT.sum(-1, keepdim=True) * mask_BT

    @policy_loss("nobody", "without a ratio")
    def toy_loss(log_prob_BT, old_log_prob_BT, advantages_BT, mask_BT, clip_ratio_low):
        seen["loss"].append(clip_ratio_low)
        return -advantages_BT * log_prob_BT, {"actor/toy": losses.masked_mean(log_prob_BT, mask_BT)}

    @control
    @dataclass(frozen=True)
    class ToyControl(Control):
        """Pulls every second token to probability 1."""

        name, label, reference, switch = "toy_control", "toy", "nobody", "controls.toy_control.strength"

        strength: float = setting(0.0, "How much.", range="[0, 1]")

        @property
        def on(self):
            return self.strength > 0

        def choose(self, step):
            seen["choose"].append(step.covariance_BT.shape)
            return (step.batch.mask_BT.cumsum(-1) % 2 == 1) & (step.batch.mask_BT > 0)

        def pull(self, log_prob_BT, old_log_prob_BT, chosen_BT):
            seen["pull"].append(self.strength)
            return -self.strength * log_prob_BT * chosen_BT

    def with_field(base, name, kind):
        """The table with one more field, or with another default of it."""
        added = [(name, kind, dataclasses.field(default_factory=kind))]
        return dataclasses.make_dataclass(base.__name__, added, bases=(base,), frozen=True)

    table = with_field(Controls, ToyControl.name, ToyControl)
    ToyRecipe = with_field(Recipe, "controls", table)
    monkeypatch.setattr(recipes, "Recipe", ToyRecipe)
    yield seen
    del ESTIMATORS["toy_estimator"], LOSSES["toy_loss"], CONTROLS["toy_control"]


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_what_is_registered_trains_through_the_recipe(toys, tmp_path):
    chosen = ["algorithm.name=toy_estimator", "loss.kind=toy_loss", "controls.toy_control.strength=0.5"]
    recipe = recipes.load(None, [*TINY, *chosen, "algorithm.gamma=0.5", "loss.clip_ratio_low=0.1"])
    assert {f.code for f in check(recipe)}.isdisjoint({"gamma-unused", "clip-ratio-unused"})
    assert runner.train(recipe, tmp_path / "run").status == "finished"
    assert toys["estimator"] == [0.5] * 2 and set(toys["loss"]) == {0.1} and set(toys["pull"]) == {0.5}
    assert len(toys["choose"]) == 2 * 2, "once an optimiser step"
    last = lines(tmp_path / "run")[-2]
    assert 0.4 < last["toy_control/effective_ratio"] <= 1 and "actor/toy" in last
    # It is in the run's own recipe and its configuration, and goes on from there.
    assert recipes.load(tmp_path / "run" / "recipe.toml") == recipe
    longer = replace(recipe, run=replace(recipe.run, steps=3))
    assert runner.train(longer, tmp_path / "run", resume=True).status == "finished"
    assert len(toys["estimator"]) == 3


def test_what_is_registered_is_a_choice_everywhere(toys):
    Recipe = recipes.Recipe  # with the new control's table
    written = recipes.to_toml(Recipe())
    assert "toy_estimator" in written and "[controls.toy_control]" in written
    with pytest.raises(UsageError, match="ppo, prime, toy_estimator"):
        recipes.load(None, ["algorithm.name=nobody"])
    with pytest.raises(UsageError, match=r"toy_control\.strength must be at least 0"):
        recipes.load(None, ["controls.toy_control.strength=-1"])
    assert (
        recipes.from_dict(recipes.to_dict(Recipe())) == Recipe() == Recipe(controls=type(Recipe().controls)())
    )
    assert recipes.changes(Recipe(controls=replace(Recipe().controls, kl_coef=0.5))) == {
        "controls.kl_coef": 0.5
    }
    assert "entlaw_toy_estimator" in names.estimators() and "entlaw_toy_loss_clip_cov" in names.loss_names()

    def plan(*overrides):
        recipe = recipes.load(Path("qwen2.5-7b-grpo"), overrides)
        files = prepare.paths(Path("/r"), recipe)
        return mapping.plan(recipe, mapping.Cluster(1, 8), Path("/r"), files, False).settings

    found = plan("algorithm.name=toy_estimator", "loss.kind=toy_loss")
    assert found["algorithm.adv_estimator"] == "entlaw_toy_estimator"
    assert found["actor_rollout_ref.actor.policy_loss.loss_mode"] == "entlaw_toy_loss"
    with pytest.raises(UsageError, match=r"controls.toy_control.strength = 0.5: verl has no such setting"):
        plan("controls.toy_control.strength=0.5")


def test_verl_calls_what_is_registered(toys):
    reward_BT, mask_BT = torch.tensor([[0.0, 1.0], [0.5, 0.0]]), torch.tensor([[1, 1], [1, 0]])
    found, _ = functions.estimator("entlaw_toy_estimator")(reward_BT, mask_BT, ["a", "b"], {"gamma": 0.25})
    assert found.tolist() == [[-1.0, -1.0], [-0.5, 0.0]] and toys["estimator"] == [0.25]


def test_after_the_toys_nothing_is_left_of_them():
    assert "toy" not in recipes.to_toml(Recipe()) and type(Recipe().controls) is Controls


def test_a_name_that_nobody_registered_is_an_error_everywhere():
    policy = tiny_policy()
    batch = tiny_batch(policy)
    recipe = replace(Recipe(), algorithm=Algorithm(name="gpro"), loss=Loss(kind="pp0_clip"))
    calls = {
        "recipe": lambda: recipes.load(None, ["algorithm.name=gpro"]),
        "rules": lambda: check(recipe),
        "estimate": lambda: estimate.with_advantages(batch, Algorithm(name="gpro"), Controls(), Prime()),
        "update": lambda: update.policy_loss(batch.log_prob_BT, batch, Loss(kind="pp0_clip"), Controls()),
        "needs": lambda: recipe.needs_reference,
        "runner": lambda: runner.train(recipe, Path("never")),
        "control": lambda: CONTROLS["clipcov"],
        "verl's loss": lambda: functions.policy_loss(names.LossName("pp0_clip")),
        "verl's name": lambda: names.estimator_name(recipe.estimator),
    }
    for where, call in calls.items():
        with pytest.raises(UsageError) as caught:
            call()
        assert "near" in (caught.value.hint or "") or "nearest" in str(caught.value), where
    with pytest.raises(KeyError):
        functions.estimator("entlaw_gpro")


def test_an_estimator_that_asks_for_what_it_is_not_given_says_so():
    batch = tiny_batch(tiny_policy())
    with pytest.raises(ValueError, match="ppo asks for value_BT, which it is not given"):
        estimate.with_advantages(batch, Algorithm(name="ppo"), Controls(), Prime())

    def misspelt(reward_B, gama=1.0, *, own=2.0):
        return reward_B * gama * own

    with pytest.raises(ValueError, match="misspelt asks for gama"):
        Estimator(misspelt, "nobody", "r")(adv.Rewards(*[batch.reward_B] * 4), Algorithm())


def test_two_of_one_name_are_refused():
    kinds: Registry[int] = Registry("toy")
    kinds.add("one", 1)
    with pytest.raises(ValueError, match="two of the toy 'one'"):
        kinds.add("one", 2)
    with pytest.raises(UsageError, match="there is no toy 'two'"):
        kinds["two"]


@pytest.mark.parametrize("name", list(ESTIMATORS))
def test_needs_are_what_the_trainer_makes(name):
    from entlaw.tasks.arithmetic import Arithmetic
    from entlaw.train.loop import Trainer

    entry = ESTIMATORS[name]
    trainer = Trainer(Recipe(algorithm=Algorithm(name=name)), Arithmetic(), tiny_policy("float32"))
    assert (trainer.critic is not None) == entry.critic == (name == "ppo")
    assert (trainer.process is not None) == entry.reward_model == (name == "prime")
    assert entry.reference and entry.formula


@pytest.mark.parametrize("name", list(CONTROLS))
def test_a_control_that_is_on_is_an_intervention_to_the_law(name):
    """The law's own list of what acts on the entropy knows every control of the trainer."""
    on = {"controls.high_entropy_share": "0.2", "controls.entropy_coeff": "0.01", "controls.kl_coef": "0.1"}
    switch = CONTROLS[name].switch
    recipe = recipes.load(None, [f"{switch}={on.get(switch, '0.01')}"])
    assert next(c for c in recipe.controls.active()).name == name
    assert [f.severity for f in interventions(recipes.to_dict(recipe))] == ["warning"]
    assert interventions(recipes.to_dict(Recipe())) == []


def test_a_control_with_settings_is_a_table_of_the_recipe():
    """A control that lacks its field would be an error at the first update."""
    tables = {name for name, cls in CONTROLS.items() if dataclasses.is_dataclass(cls)}
    assert tables == {f.name for f in dataclasses.fields(Controls) if f.name in CONTROLS}


def test_a_setting_knows_only_its_own_facts():
    with pytest.raises(TypeError, match="unexpected keyword argument 'rnage'"):
        setting(1, rnage="[0, 1]")
    assert all(dataclasses.is_dataclass(s) for s in recipes.settings().values())
