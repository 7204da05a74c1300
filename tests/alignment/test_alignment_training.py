"""The choice of an alignment model: the registry's names are those that can be trained and loaded."""

from pathlib import Path

import pytest
import yaml

from dentalign import params
from dentalign.alignment import registry
from dentalign.alignment.training import Train
from dentalign.errors import ParamError
from tests.support.repository import ROOT


def test_params_yaml_says_all_that_can_be_set_of_every_model() -> None:
    written = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))["train"]
    for name in registry.MODELS:
        section = getattr(params.load(ROOT / "params.yaml", Train, "train"), name)
        assert written[name] == section.model_dump()


@pytest.mark.parametrize("name", ["quadratic", "epochs", "seed"])
def test_an_unknown_model_is_refused_with_those_there_are(tmp_path: Path, name: str) -> None:
    (tmp_path / "params.yaml").write_text(f"train:\n  model: {name}\n", encoding="utf-8")
    wanted = rf"train\.model: .*must be one of {', '.join(registry.MODELS)}, got '{name}'"
    with pytest.raises(ParamError, match=wanted):
        params.load(tmp_path / "params.yaml", Train, "train")
