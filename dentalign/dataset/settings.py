"""Section `sample` of params.yaml."""

from typing import Annotated

from pydantic import Field

from dentalign.params import NotNegative, Section


class Sample(Section):
    """Points on a tooth."""

    points: Annotated[int, Field(ge=8, multiple_of=2)] = 256
    oversampling: Annotated[int, Field(ge=2, le=64)] = 8
    seed: NotNegative = 0
    workers: NotNegative = 0
