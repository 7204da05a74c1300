"""One network as an ONNX file that says what goes in and comes out, held to the network that it came from."""

import functools
import importlib.util
import json
import logging
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from dentalign.autoencoder.interface import Interface, Port
from dentalign.errors import DentalignError
from dentalign.files.atomic import replacing

OPSET = 18
TOLERANCE = 1e-4  # of the largest value of an output

Arrays = Sequence[NDArray[Any]]


def require_onnx() -> None:
    """Raise DentalignError where a package that writes ONNX files is missing."""
    missing = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise DentalignError(
            f"{' and '.join(missing)} not installed: they come with dentalign's extra `export` "
            "(docs/models.md says how to install it)"
        )


def write(
    path: str | Path,
    network: nn.Module,
    interface: Interface,
    about: dict[str, str],
    examples: Sequence[Arrays],
    wanted: Callable[[Arrays], Arrays],
) -> float | None:
    """Write a network as ONNX, all or nothing, and verify it where onnxruntime is installed.

    network   : made of operators that ONNX has; its arguments are the interface's inputs
    about     : what the file's metadata says, beside the interface
    examples  : arguments in batches of different length; the first serves to export, all to verify
    wanted    : computes the answers that the file must give, from the same arguments
    returns   : the largest difference from them over all examples, as a share of the largest value of that
                output; None where it could not be verified
    raises    : DentalignError where that is above `TOLERANCE`, and the file does not appear
    """
    model = _exported(network.eval(), interface, examples[0])
    _describe(model, interface, about)
    with replacing(path) as part:
        part.write_bytes(model.SerializeToString(deterministic=True))
        if importlib.util.find_spec("onnxruntime") is None:
            return None
        worst = 0.0
        for given in examples:
            shares = differences(answers(part, interface, given), wanted(given), interface.outputs)
            worst = max(worst, *shares.values())
            if not worst <= TOLERANCE:
                name = max(shares, key=lambda key: shares[key])
                raise DentalignError(
                    f"{path}: not written: in onnxruntime {name} differs by {worst:.1e} of its largest "
                    f"value, at most {TOLERANCE:g} is allowed"
                )
    return worst


def answers(path: str | Path, interface: Interface, given: Arrays) -> Arrays:
    """Run a file in onnxruntime, on the CPU, one thread; returns its outputs."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [port.name for port in interface.inputs]
    found: Arrays = session.run(None, dict(zip(names, given, strict=True)))
    return found


def differences(found: Arrays, wanted: Arrays, outputs: Sequence[Port]) -> dict[str, float]:
    """By output the largest difference as a share of the largest value; infinite where shapes or NaNs differ.

    Rotation and translation of a pose are measured apart: the first has no unit.
    """
    shares = {}
    for port, ours, theirs in zip(outputs, found, wanted, strict=True):
        if port.shape[-2:] == (4, 4):
            shares[f"{port.name} (rotation)"] = _share(ours[..., :3, :3], theirs[..., :3, :3])
            shares[f"{port.name} (translation)"] = _share(ours[..., :3, 3], theirs[..., :3, 3])
        else:
            shares[port.name] = _share(ours, theirs)
    return shares


def _share(ours: NDArray[Any], theirs: NDArray[Any]) -> float:
    if ours.shape != theirs.shape or not (np.isnan(ours) == np.isnan(theirs)).all():
        return float("inf")
    known = np.isfinite(theirs)
    if not known.any():
        return 0.0
    away = np.abs(ours[known].astype(np.float64) - theirs[known])
    return float(away.max() / max(float(np.abs(theirs[known]).max()), 1e-30))


def _exported(network: nn.Module, interface: Interface, example: Arrays) -> Any:
    """The model as onnx's ModelProto."""
    dim = functools.cache(torch.export.Dim)  # one object for each letter
    shapes = tuple(
        {number: dim(axis) for number, axis in enumerate(port.shape) if isinstance(axis, str)}
        for port in interface.inputs
    )
    log = logging.getLogger("torch.onnx._internal.exporter._registration")  # misses torchvision, loudly
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # the exporter's, about its own parts
            program = torch.onnx.export(
                network,
                tuple(torch.from_numpy(np.array(array)) for array in example),
                input_names=[port.name for port in interface.inputs],
                output_names=[port.name for port in interface.outputs],
                dynamic_shapes=shapes,
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
    finally:
        log.setLevel(level)
    assert program is not None
    return program.model_proto


def _describe(model: Any, interface: Interface, about: dict[str, str]) -> None:
    """Put the interface into the model, and take out where on this machine the code lies."""
    graph = model.graph
    values = (*graph.input, *graph.output, *graph.value_info, *graph.initializer)
    for part in (model, graph, *graph.node, *values):
        del part.metadata_props[:]
        part.doc_string = ""
    for named, ports in ((graph.input, interface.inputs), (graph.output, interface.outputs)):
        for value, port in zip(named, ports, strict=True):
            value.doc_string = f"{port.shape_text} {port.dtype}, {port.unit}: {port.meaning}"
    model.doc_string = f"{interface.title}: {interface.task}"
    said = {
        "title": interface.title,
        "task": interface.task,
        "inputs": json.dumps([asdict(port) for port in interface.inputs]),
        "outputs": json.dumps([asdict(port) for port in interface.outputs]),
        "outside": interface.outside,
        **about,
    }
    for key, value in sorted(said.items()):
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
