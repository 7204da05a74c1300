"""Write a model as an ONNX file that describes its inputs and outputs, and compare its results."""

import importlib.util
import json
import logging
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from dentalign.autoencoder.interface import Interface, Port
from dentalign.errors import DentalignError
from dentalign.export.exportable import gathered_bag
from dentalign.files.atomic import replacing

Arrays = Sequence[NDArray[Any]]

OPSET = 18
TOLERANCE = 1e-4  # of the largest value of an output
_BATCHES = (2, 1, 5)  # the first is exported with; the others show that the batch may be of any length


@dataclass(frozen=True)
class Exportable:
    """Model with what its export needs.

    network   : module that uses only operations of ONNX; its arguments are `interface.inputs`
    interface : descriptions of inputs and outputs
    config    : plain values for the file's metadata
    examples  : function from batch length and random generator to random arguments of the network
    expected  : function from arguments to the results that the file must give; None: `network` itself
    """

    network: nn.Module
    interface: Interface
    config: dict[str, Any]
    examples: Callable[[int, np.random.Generator], Arrays]
    expected: Callable[[Arrays], Arrays] | None = None

    @torch.inference_mode()
    def results(self, given: Arrays) -> Arrays:
        """Results that the file must give for the inputs `given`."""
        if self.expected is not None:
            return self.expected(given)
        return [self.network(*(torch.from_numpy(array) for array in given)).numpy()]


def require_onnx() -> None:
    """Raise DentalignError if a package that writes ONNX files is missing."""
    missing = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise DentalignError(
            f"{' and '.join(missing)} not installed: they come with dentalign's extra `export` "
            "(docs/models.md says how to install it)"
        )


def write(path: str | Path, exportable: Exportable, about: dict[str, str]) -> float | None:
    """Write a model as ONNX, all or nothing, and verify the file if onnxruntime is installed.

    about   : name -> text, metadata beside the interface
    returns : the largest difference from the expected results, as a share of the largest value of that
              output; None if onnxruntime is not installed
    raises  : DentalignError if the difference is above `TOLERANCE`; then no file is written
    """
    rng = np.random.default_rng(0)
    examples = [exportable.examples(count, rng) for count in _BATCHES]
    interface = exportable.interface
    model = _exported(exportable.network.eval(), interface, examples[0])
    _describe(model, interface, about)
    with replacing(path) as part:
        part.write_bytes(model.SerializeToString(deterministic=True))
        if importlib.util.find_spec("onnxruntime") is None:
            return None
        shares: dict[str, float] = {}
        for given in examples:
            found = differences(run(part, interface, given), exportable.results(given), interface.outputs)
            shares = {name: max(share, shares.get(name, 0.0)) for name, share in found.items()}
        name = max(shares, key=lambda output: shares[output])
        if not shares[name] <= TOLERANCE:
            raise DentalignError(
                f"{path}: not written: in onnxruntime {name} differs by {shares[name]:.1e} of its largest "
                f"value, at most {TOLERANCE:g} is allowed"
            )
    return shares[name]


def run(path: str | Path, interface: Interface, given: Arrays) -> Arrays:
    """Run an ONNX file in onnxruntime on one CPU thread; `given` are the inputs in the interface's order."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    results: Arrays = session.run(
        None, {port.name: array for port, array in zip(interface.inputs, given, strict=True)}
    )
    return results


def differences(found: Arrays, expected: Arrays, outputs: Sequence[Port]) -> dict[str, float]:
    """Largest difference of each output as a share of its largest value; infinite if shapes or NaNs differ.

    For poses, rotation (no unit) and translation (mm) are two entries.
    """
    shares = {}
    for port, a, b in zip(outputs, found, expected, strict=True):
        if port.shape[-2:] == (4, 4):
            shares[f"{port.name} (rotation)"] = _share(a[..., :3, :3], b[..., :3, :3])
            shares[f"{port.name} (translation)"] = _share(a[..., :3, 3], b[..., :3, 3])
        else:
            shares[port.name] = _share(a, b)
    return shares


def _share(found: NDArray[Any], expected: NDArray[Any]) -> float:
    if found.shape != expected.shape or not (np.isnan(found) == np.isnan(expected)).all():
        return float("inf")
    away = np.nan_to_num(np.abs(found.astype(np.float64) - expected))
    return float(away.max(initial=0) / max(np.nan_to_num(np.abs(expected)).max(initial=0), 1e-30))


def _exported(network: nn.Module, interface: Interface, example: Arrays) -> Any:
    """Export a module as onnx's ModelProto; axes that the interface names by letters may have any length."""
    letters = {axis for port in interface.inputs for axis in port.shape if isinstance(axis, str)}
    dims = {letter: torch.export.Dim(letter) for letter in letters}
    shapes = tuple(
        {k: dims[axis] for k, axis in enumerate(port.shape) if axis in dims} for port in interface.inputs
    )
    bags = (torch.ops.aten.embedding_bag.padding_idx, torch.ops.aten._embedding_bag_forward_only.default)
    logging.disable(logging.WARNING)  # of the exporter, about its own parts
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            arguments = tuple(torch.from_numpy(np.array(array)) for array in example)
            program = torch.export.export(network, arguments, dynamic_shapes=shapes)
            exported = torch.onnx.export(
                program.run_decompositions(dict.fromkeys(bags, gathered_bag)),
                input_names=[port.name for port in interface.inputs],
                output_names=[port.name for port in interface.outputs],
                opset_version=OPSET,
                dynamo=True,
                optimize=False,  # onnxscript's optimiser drops small constants such as that of x + 1e-12
                verbose=False,
            )
    finally:
        logging.disable(logging.NOTSET)
    assert exported is not None
    return exported.model_proto


def _describe(model: Any, interface: Interface, about: dict[str, str]) -> None:
    """Put the interface into the model, and remove the paths of this machine's code."""
    graph = model.graph
    values = (*graph.input, *graph.output, *graph.value_info, *graph.initializer)
    for part in (model, graph, *graph.node, *values):
        del part.metadata_props[:]
        part.doc_string = ""
    for named, ports in ((graph.input, interface.inputs), (graph.output, interface.outputs)):
        for value, port in zip(named, ports, strict=True):
            value.doc_string = f"{port.shape_text} {port.dtype}, {port.unit}: {port.meaning}"
    model.doc_string = f"{interface.title}: {interface.task}"
    metadata = about | {
        "title": interface.title,
        "task": interface.task,
        "inputs": json.dumps([asdict(port) for port in interface.inputs]),
        "outputs": json.dumps([asdict(port) for port in interface.outputs]),
        "outside": interface.outside,
    }
    for key, value in sorted(metadata.items()):
        model.metadata_props.add(key=key, value=value)
