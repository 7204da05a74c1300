"""Command `dentalign`; modules are imported inside the subcommands that use them, so that --help is quick."""

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

from dentalign import __version__
from dentalign.running import command

if TYPE_CHECKING:
    from dentalign.cases.left_out import LeftOut
    from dentalign.prediction.model_sets import ModelSet
    from dentalign.settings import Settings

T = TypeVar("T")
_PARAMS_HELP = "Parameters (YAML). Default: params.yaml in the working folder, if there is one."

# Options of several commands.
_Json = Annotated[
    str | None,
    typer.Option(help="JSONs of a case list (folder or URL prefix). Default: json/ beside the list."),
]
_Meshes = Annotated[
    str | None,
    typer.Option(help="Meshes (folder or URL prefix). Default: stl/ of the case store, or beside the list."),
]
_Axis = Annotated[
    Literal["+y", "-y"] | None,
    typer.Option(help="Buccal axis of the exporter's tooth-local frame. Default: source.buccal_axis."),
]
_Device = Annotated[
    Literal["auto", "cpu", "cuda"], typer.Option(help="Device of the models; auto: the GPU if there is one.")
]

app = typer.Typer(
    name="dentalign",
    help="Predict orthodontic treatment targets (T2) from cases at T1.",
    no_args_is_help=True,
)


def main() -> None:
    """Run the command `dentalign`."""
    command.run(app)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # loading torch takes a second

        from dentalign.prediction import model_sets

        ready = model_sets.find_models()
        typer.echo(f"dentalign {__version__}\ntorch {version('torch')}")
        typer.echo(f"models {ready}" if ready.is_complete else "models none: see `dentalign models`")
        raise typer.Exit


@app.callback()
def dentalign(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_version,
            is_eager=True,
            help="Show the versions of dentalign and torch, and the models that `predict` uses; exit.",
        ),
    ] = False,
) -> None:
    """Predict orthodontic treatment targets (T2) from cases at T1."""


@app.command("list", epilog=command.EPILOG)
def list_(
    source: Annotated[Path, typer.Argument(help="Case store (a folder with json/), or case list (CSV).")],
    out: Annotated[Path, typer.Option(help="Case list to write (CSV).")] = Path("cases.csv"),
    autoencoder: Annotated[
        int,
        typer.Option(min=0, help="Number of train cases in the list for the autoencoder; 0: no such list."),
    ] = 0,
    autoencoder_out: Annotated[
        Path, typer.Option(help="Case list for the autoencoder to write (CSV).")
    ] = Path("autoencoder_cases.csv"),
) -> None:
    """Write the case list of a case store; files that cannot be a case are named on stderr.

    The split depends on the patient ids: if you have them, use a case list with patient_id as SOURCE.
    """
    from dentalign.cases import case_list
    from dentalign.errors import NothingUsable

    if not source.exists():
        raise typer.BadParameter(f"{source} is not there", param_hint="SOURCE")
    cases, left_out = case_list.read(source, "list") if source.is_file() else case_list.find(source)
    if any(case.planner for case in cases) and out.exists() and out.samefile(source):
        raise typer.BadParameter(
            "is SOURCE, which would lose its column planner; name another file", param_hint="--out"
        )
    for line in left_out:
        typer.echo(f"skipped: {line.file}: {line.seen}; {line.fix}", err=True)
    if not cases:
        raise NothingUsable(f"{source}: no case is usable, {len(left_out)} skipped")
    case_list.write(out, cases)
    typer.echo(f"list: {len(cases)} cases, {len(left_out)} skipped -> {out}", err=True)
    if autoencoder:
        drawn = case_list.for_autoencoder(cases, autoencoder)
        case_list.write(autoencoder_out, drawn)
        typer.echo(f"list: {len(drawn)} train cases for the autoencoder -> {autoencoder_out}", err=True)


@app.command("predict", epilog=command.EPILOG)
def predict_(
    out: Annotated[Path, typer.Option(help="Folder to write the results into.")],
    case: Annotated[
        Path | None, typer.Option(help="Case (<case_id>.json; T1 is enough), or folder of cases.")
    ] = None,
    meshes: Annotated[
        str, typer.Option(help="Folder with <FDI>.stl, or folder or URL with <case_id>/<FDI>.stl.")
    ] = "",
    crowns: Annotated[
        Path | None,
        typer.Option(
            help="In place of --case and --meshes: folder with a mesh for each crown, all in one frame, with "
            "the tooth's number in its name (docs/own-crowns.md). The folder's name becomes the case id."
        ),
    ] = None,
    numbering: Annotated[
        Literal["fdi", "universal"] | None,
        typer.Option(help="--crowns: notation of the tooth numbers. Default: found from the numbers."),
    ] = None,
    models: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|DIR",
            help="Models to use: a name that `dentalign models` lists, or a folder with encoder.pt, "
            "decoder.pt and alignment.pt. Default: models/alignment.pt with the files in the parameters "
            "encoder.weights and decoder.weights; where there is none, the starter weights.",
        ),
    ] = None,
    prescription: Annotated[
        Path | None,
        typer.Option(help="Wishes for the plan (YAML, docs/prescription.md); the options below add to them."),
    ] = None,
    extract: Annotated[str, typer.Option(help="FDI numbers of teeth to extract, such as 14,24.")] = "",
    fixed: Annotated[
        str, typer.Option(help="FDI numbers of teeth that must not move, such as implants: 36,46.")
    ] = "",
    only: Annotated[
        str, typer.Option(help="Teeth that may move, the others stay, such as 13-23,33-43.")
    ] = "",
    planner: Annotated[
        str | None,
        typer.Option(help="Planner whose plans are to be followed: a code such as planner-01, or the name."),
    ] = None,
    planners: Annotated[
        Path | None,
        typer.Option(help="Table of codes and names. Default: that beside the case list source.cases."),
    ] = None,
    arch_shift: Annotated[
        str,
        typer.Option(
            help="Shift of an arch as a whole, x,y,z in mm (x patient's left, y back, z up), or free: "
            "upper:0,3,0 is 3 mm back."
        ),
    ] = "",
    proposals: Annotated[
        int, typer.Option(min=1, max=5, help="Most plans per case; the second and further in proposals/.")
    ] = 1,
    no_solver: Annotated[
        bool,
        typer.Option("--no-solver", help="Give the network's answer as it is, with teeth held only."),
    ] = False,
    stages: Annotated[
        bool,
        typer.Option(
            "--stages",
            help="Also plan the stages from T1 to T2, on which no tooth passes through another, in steps "
            "within predict.max_step_mm and the other limits of params.yaml; writes staging/ too.",
        ),
    ] = False,
    moved: Annotated[
        Literal["none", "stl", "glb"],
        typer.Option(
            help="Also write the crowns, in this format, at T1 and T2, or with --stages at every stage."
        ),
    ] = "none",
    poses_only: Annotated[
        bool, typer.Option("--poses-only", help="Write poses and movements only, no picture and no report.")
    ] = False,
    buccal_axis: Annotated[
        Literal["auto", "+y", "-y"],
        typer.Option(
            help="Buccal axis of the exporter's tooth-local frame. auto: source.buccal_axis of the "
            "parameters, or its opposite for a case in which that axis points inwards in at least 90 % of "
            "the teeth."
        ),
    ] = "auto",
    device: _Device = "auto",
    params_file: Annotated[Path | None, typer.Option("--params", help=_PARAMS_HELP)] = None,
) -> None:
    """Predict T2 of new patients with the trained models.

    Writes json/, movement/, picture/ and report/ with a file per case, and teeth.tsv with all teeth for a
    spreadsheet. Also writes left_out.csv and to_look_at.csv, with the cases and teeth that a clinician should
    review. With --crowns also writes crowns/, the crowns that belong to json/.
    """
    if crowns is None and not (case and meshes):
        raise typer.BadParameter("give --case and --meshes, or --crowns", param_hint="predict")
    for value, option in ((case, "--case"), (meshes, "--meshes")):
        if crowns is not None and value:
            raise typer.BadParameter("not together with --crowns", param_hint=option)
    if numbering and crowns is None:
        raise typer.BadParameter("only for --crowns", param_hint="--numbering")

    from dentalign import settings
    from dentalign.cases.planners import code_of, table_beside
    from dentalign.planning.prescription import Prescription, parse_arch_shift, parse_teeth
    from dentalign.planning.prescription import read as read_prescription
    from dentalign.prediction import batch, model_sets
    from dentalign.prediction.files import OutputOptions
    from dentalign.prediction.predictor import Predictor
    from dentalign.prediction.review import UNLIKE_TRAINING

    rx = read_prescription(prescription) if prescription else Prescription()
    rx = rx.joined(
        extract=_parsed(parse_teeth, extract, "--extract"),
        fixed=_parsed(parse_teeth, fixed, "--fixed"),
        only=_parsed(parse_teeth, only, "--only"),
        arch_shift_mm=_parsed(parse_arch_shift, arch_shift, "--arch-shift"),
        planner=planner,
    )
    sections = ("source", "fetch", "limits", "sample", "encoder", "decoder", "planning", "predict")
    given = settings.load(params_file, *sections)
    if rx.planner:
        table = planners or table_beside(given.source.cases)
        rx = rx.joined(planner=code_of(rx.planner, table))
    chosen = model_sets.find_models(models)
    options = _predictor_options(given, chosen, models is None, device, buccal_axis)
    predictor = Predictor(**options | ({"planning": None} if no_solver else {}))
    wanted = OutputOptions(stages, moved, not poses_only, given.predict)
    typer.echo(f"predict: models: {chosen}", err=True)
    if crowns is not None:
        from dentalign.importers.crown_prediction import predict_crowns

        done = predict_crowns(
            crowns, out, predictor, wanted, rx, numbering=numbering or "", proposals=proposals
        )
    else:
        assert case is not None
        done = batch.predict_cases(case, meshes, out, predictor, wanted, rx, proposals)
    _print_left_out(done.left_out)
    for look in done.to_look_at:
        if not look.tooth or look.code in UNLIKE_TRAINING:
            tooth = f" tooth {look.tooth}" if look.tooth else ""
            typer.echo(f"look at: case {look.case_id}{tooth}: {look.seen}; {look.fix}", err=True)
    looks = len({look.case_id for look in done.to_look_at})
    what = f"{len(done.files)} cases, {done.refused} refused, {looks} with something to look at"
    typer.echo(f"predict: {what} -> {out}", err=True)
    if len(done.files) == 1:
        for file in done.files[0]:
            typer.echo(str(file))


def _predictor_options(
    given: "Settings", chosen: "ModelSet", by_default: bool, device: str, buccal_axis: str
) -> dict[str, Any]:
    """Arguments of `Predictor`: parameters as given; the project's models by default take its own weights."""
    from dentalign.prediction import model_sets
    from dentalign.prediction.review import Thresholds

    of_project = by_default and chosen.folder == model_sets.PROJECT
    return {
        "models": chosen.folder,
        "encoder": given.encoder.weights if of_project else None,
        "decoder": given.decoder.weights if of_project else None,
        "device": device,
        "buccal_axis": given.source.buccal_axis if buccal_axis == "auto" else buccal_axis,
        "find_axis": buccal_axis == "auto",
        "sample": given.sample if "sample" in given.model_fields_set else None,  # None: as the encoder needs
        "limits": given.limits,
        "fetch": given.fetch,
        "planning": given.planning,
        "look": Thresholds(
            given.predict.look_above_mm,
            given.predict.look_overlap_mm,
            given.predict.look_occlusal_mm,
            given.predict.look_apex_mm,
        ),
    }


@app.command("serve", epilog=command.EPILOG)
def serve_(
    models: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME|DIR", help="Models, as for `predict`; may be given several times."),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on. Another than loopback lets others send cases.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8000,
    origin: Annotated[
        list[str] | None,
        typer.Option(help="Site whose pages may call the server: https://app.example.org; repeatable."),
    ] = None,
    upload_mb: Annotated[float, typer.Option(min=0, help="Largest upload, MB.")] = 100.0,
    upload_s: Annotated[float, typer.Option(min=0, help="Longest upload, seconds.")] = 60.0,
    work_s: Annotated[float, typer.Option(min=0, help="Longest prediction, seconds.")] = 120.0,
    device: _Device = "auto",
    params_file: Annotated[Path | None, typer.Option("--params", help=_PARAMS_HELP)] = None,
) -> None:
    """Serve predictions over HTTP: a case in, the plan and its report out; nothing is kept (docs/serving.md).

    Needs dentalign's extra `serve`. There is no login and no encryption: beyond loopback put a proxy in front
    that has both.
    """
    from dentalign import settings
    from dentalign.errors import DentalignError
    from dentalign.prediction import model_sets

    try:
        from dentalign.serving import app as serving
    except ModuleNotFoundError as error:
        raise DentalignError(f"{error.name} is not installed: pip install 'dentalign[serve]'") from None
    from dentalign.serving.limits import ServerLimits
    from dentalign.serving.worker import Worker

    sections = ("source", "fetch", "limits", "sample", "encoder", "decoder", "planning", "predict")
    given = settings.load(params_file, *sections)
    workers = {}
    names: list[str | None] = [*models] if models else [None]
    for name in names:
        chosen = model_sets.find_models(name)
        options = _predictor_options(given, chosen, name is None, device, "auto")
        workers[chosen.name] = Worker(chosen.name, options, given.predict)
        typer.echo(f"serve: models: {chosen}", err=True)
    limits = ServerLimits(upload_mb=upload_mb, upload_s=upload_s, work_s=work_s)
    if host not in serving.LOOPBACK:
        typer.echo(f"serve: anybody who can reach {host} can send cases: no login, no encryption", err=True)
    typer.echo(f"serve: http://{host}:{port}/docs (Ctrl-C ends it)", err=True)
    serving.serve(serving.make_app(workers, limits, host=host, origins=origin or ()), host, port)


@app.command("models", epilog=command.EPILOG)
def models_() -> None:
    """List the models that are ready for `predict --models`: those trained here, and the starter weights."""
    from dentalign.alignment import registry
    from dentalign.prediction import model_sets
    from dentalign.running import table

    sets = model_sets.available()
    if not sets:
        typer.echo("models: none here; `dvc repro` trains some, see docs/models.md", err=True)
        raise typer.Exit(1)
    rows = []
    for one in sets:
        model = registry.load(one.folder / "alignment.pt")
        cases = f"{model.patterns.mouths} cases" if model.patterns else "unknown"
        figures = ", ".join(f"{name} {value}" for name, value in one.card.figures.items())
        known = (one.card.trained_on or cases, figures or "-", one.card.licence or "your own")
        rows.append((one.name, model.config.model, *known, *one.sha256.values()))
    columns = ("name", "model", "trained on", "figures", "licence", *model_sets.FILES)
    table.show(columns, rows, sys.stdout)


def _print_left_out(lines: Iterable["LeftOut"]) -> None:
    for line in lines:
        tooth = f" tooth {line.tooth}" if line.tooth else ""
        typer.echo(f"left out: case {line.case_id}{tooth}: {line.seen}; {line.fix} [{line.file}]", err=True)


def _parsed(parse: Callable[[str], T], text: str, option: str) -> T:
    """Parse the text of an option; what it cannot read is a wrong use of that option."""
    try:
        return parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None


@app.command("measure", epilog=command.EPILOG)
def measure_(
    case: Annotated[
        Path, typer.Argument(metavar="CASE", exists=True, dir_okay=False, help="Case (<case_id>.json).")
    ],
    meshes: Annotated[
        str, typer.Option(help="Folder with <FDI>.stl, or folder or URL with <case_id>/<FDI>.stl.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder to write <case_id>.json and <case_id>.csv into. Default: only print."),
    ] = None,
    buccal_axis: Annotated[
        Literal["auto", "+y", "-y"], typer.Option(help="As for `dentalign predict`.")
    ] = "auto",
    params_file: Annotated[Path | None, typer.Option("--params", help=_PARAMS_HELP)] = None,
) -> None:
    """Measure a case as it stands, at T1 and, if it has a plan, at T2: overjet, molar class, crowding.

    No model is needed. Prints a table (CSV); definitions, signs and norms are in docs/clinical-measures.md.
    """
    from dentalign import settings
    from dentalign.cases.crowns import Sampler
    from dentalign.cases.settings import Sample
    from dentalign.clinical import tables
    from dentalign.files import csv_table
    from dentalign.prediction.clinical_states import measure_case

    given = settings.load(params_file, "source", "fetch", "limits")
    axis = given.source.buccal_axis if buccal_axis == "auto" else buccal_axis
    sampler = Sampler(axis, Sample(points=8, oversampling=2), given.limits)  # the points are not used
    lines: list[LeftOut] = []
    try:
        states = measure_case(
            case, meshes, sampler, fetch=given.fetch, find_axis=buccal_axis == "auto", lines=lines, out=out
        )
    finally:
        _print_left_out(lines)
    typer.echo(csv_table.text(tables.COLUMNS, tables.rows(states)), nl=False)


@app.command("check", epilog=command.EPILOG)
def check_(
    source: Annotated[
        Path, typer.Argument(help="Case store (a folder with json/ and stl/), or case list (CSV).")
    ],
    json: _Json = None,
    meshes: _Meshes = None,
    out: Annotated[Path | None, typer.Option(help="Also write the table into this file (CSV).")] = None,
    buccal_axis: _Axis = None,
    params_file: Annotated[Path | None, typer.Option("--params", help=_PARAMS_HELP)] = None,
) -> None:
    """List what the pipeline would leave out of a data set, and why; nothing is written into the project.

    Exit code: 0 nothing to report, 1 something would be left out or there is a warning, 3 no case is usable.
    A case without T2 is usable for `dentalign predict` but left out of the training: exit code 1.
    """
    from dentalign import check, settings
    from dentalign.cases import left_out
    from dentalign.errors import NothingUsable

    if not source.exists():
        raise typer.BadParameter(f"{source} is not there", param_hint="SOURCE")
    given = settings.load(params_file, "source", "fetch", "limits")
    axis = buccal_axis or given.source.buccal_axis
    with check.locate(source, json, meshes) as places:
        checked = check.check(places, buccal_axis=axis, limits=given.limits, fetch_settings=given.fetch)
    if checked.lines:
        check.show(checked.lines, sys.stdout)
    if out is not None:
        left_out.write_csv(out, checked.lines)
    for remark in checked.remarks:
        typer.echo(f"check: warning: {remark}", err=True)
    typer.echo(f"check: {checked.totals}", err=True)
    if checked.totals.cases_used:
        text = ", ".join(f"{count} {split}" for split, count in checked.splits.items())
        more = "" if all(checked.splits.values()) else "; the pipeline needs a patient in each: add patients"
        typer.echo(f"check: split by patient: {text}{more}", err=True)
    if checked.planners:
        counts = ", ".join(f"{code}: {count}" for code, count in sorted(checked.planners.items()))
        unknown = checked.totals.cases_used - checked.planners.total()
        text = f"{len(checked.planners)} ({counts}); cases without one: {unknown}"
        typer.echo(f"check: planners: {text}", err=True)
    if checked.for_predict:
        typer.echo(f"check: {checked.for_predict} cases usable for predict, not for training", err=True)
    elif not checked.totals.cases_used:
        raise NothingUsable(f"{source}: no case is usable")
    if any(remark.pointless for remark in checked.remarks):
        raise NothingUsable(f"{source}: nothing to learn from")
    if not checked.all_good:
        raise typer.Exit(1)


@app.command("describe", epilog=command.EPILOG)
def describe_(
    source: Annotated[
        Path,
        typer.Argument(
            exists=True, help="Case store (a folder with json/ and stl/), case list (CSV), or describe.json."
        ),
    ],
    json: _Json = None,
    meshes: _Meshes = None,
    out: Annotated[
        Path | None, typer.Option(help="Also write describe.json and describe.html into this folder.")
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            help="Other data set to compare with: case store, case list with json/ and stl/ beside it, or a "
            "describe.json. Default: describe.json beside the models, which is about their training cases.",
        ),
    ] = None,
    models: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|DIR",
            help="Models with whose training the cases are compared, as `predict` does. Default: the starter "
            "weights, if they are there.",
        ),
    ] = None,
    buccal_axis: _Axis = None,
    params_file: Annotated[Path | None, typer.Option("--params", help=_PARAMS_HELP)] = None,
) -> None:
    """Describe a data set before training: teeth, movements, overlap, frame, and drift from another."""
    from dentalign import check, describe, settings
    from dentalign.prediction import model_sets
    from dentalign.running import table

    given = settings.load(params_file, "source", "fetch", "limits")
    chosen = model_sets.find_models(models) if models else model_sets.ModelSet("starter", model_sets.STARTER)
    alignment = chosen.folder / "alignment.pt" if models or chosen.is_complete else None

    def fingerprint(path: Path, *places: str | None) -> describe.Fingerprint:
        if path.suffix.lower() == ".json":
            return describe.read(path)
        with check.locate(path, *places) as found:
            return describe.describe(
                found, alignment, buccal_axis=buccal_axis or given.source.buccal_axis, limits=given.limits,
                fetch_settings=given.fetch,
            )  # fmt: skip

    own = fingerprint(source, json, meshes)
    training = chosen.folder / "describe.json"
    against = against or (training if training.is_file() else None)
    other = fingerprint(against) if against else None
    table.show(describe.columns(other), describe.rows(own, other), sys.stdout)
    for name, count in {**own.counts, **own.planners, **own.patterns, **own.unlike}.items():
        typer.echo(f"describe: {name}: {count}", err=True)
    if out is not None:
        describe.write(out, own, other)
        typer.echo(f"describe: {out / 'describe.html'}", err=True)


@app.command("import", epilog=command.EPILOG)
def import_(
    form: Annotated[
        Literal["crowns", "scan", "teethalign3d", "beijing", "teeth3ds"],
        typer.Argument(
            metavar="FORMAT",
            help="crowns: a file per crown, in one frame, with the tooth's number in its name; scan: "
            "labelled scans; teethalign3d, beijing, teeth3ds: downloads of these data sets.",
        ),
    ],
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SRC",
            help="Folder with the data; its subfolders are searched, too. crowns: a subfolder per case; "
            "scan: files <id>_upper and <id>_lower.",
        ),
    ],
    dest: Annotated[
        Path,
        typer.Argument(
            metavar="DEST", help="Folder for the cases: new, or made by an earlier import of this FORMAT."
        ),
    ],
    numbering: Annotated[
        Literal["fdi", "universal"] | None,
        typer.Option(help="crowns and scan: notation of the tooth numbers. Default: found from the numbers."),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help='scan: table of labels or colours and their teeth, JSON such as {"3": 11, "#ff0000": 12}.',
        ),
    ] = None,
    matrices: Annotated[
        Literal["origin", "tooth"] | None,
        typer.Option(
            help="teethalign3d: centre of rotation of its matrices (docs/public-data-sets.md). "
            "Default: found from the data."
        ),
    ] = None,
) -> None:
    """Import crowns, labelled scans or a public data set into our case layout: json/, stl/, left_out.csv.

    A case is written completely or not at all; after an interruption, run the command again and it
    continues. Crowns and scans become cases at T1 for `predict`, see docs/own-crowns.md. For public data sets
    see docs/public-data-sets.md.
    """
    from dentalign.importers import import_run

    for value, option, forms in (
        (matrices, "--matrices", ("teethalign3d",)),
        (numbering, "--numbering", ("crowns", "scan")),
        (labels, "--labels", ("scan",)),
    ):
        if value and form not in forms:
            raise typer.BadParameter(f"only for {' and '.join(forms)}", param_hint=option)
    importer = import_run.importer(form, matrices=matrices or "", numbering=numbering or "", labels=labels)
    imported = import_run.import_cases(importer, source, dest)
    _print_left_out(imported.lines)
    for name, decision in sorted(imported.decisions.items()):
        typer.echo(f"decided: {name}: {decision}", err=True)
    for note, count in sorted(imported.notes.items()):
        typer.echo(f"decided: {note} ({count} cases)", err=True)
    typer.echo(f"import: {imported} -> {dest}", err=True)


@app.command("pseudonymise", epilog=command.EPILOG)
def pseudonymise_(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SRC", exists=True, file_okay=False, help="Case store: json/, stl/, cases.csv."
        ),
    ],
    dest: Annotated[
        Path, typer.Argument(metavar="DEST", help="Folder for the new case store; new, or of an earlier run.")
    ],
    cases: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Case list (CSV). Default: cases.csv of SRC."),
    ] = None,
    map_file: Annotated[
        Path | None,
        typer.Option(
            "--map",
            help="Also write a table of pseudonyms and case ids (CSV), outside of git and DVC projects.",
        ),
    ] = None,
    planners: Annotated[
        Path | None,
        typer.Option(
            help="Also write a table of the planners' codes and names (CSV), outside of git and DVC projects."
        ),
    ] = None,
    params_file: Annotated[Path | None, typer.Option("--params", help=_PARAMS_HELP)] = None,
) -> None:
    """Copy a case store with keyed hashes in place of case and patient ids, without any free text.

    Names of planners become codes (planner-01, ...), which a later run into the same DEST continues.
    The key is DENTALIGN_ID_KEY, a secret of 16 characters or more (openssl rand -hex 32): the same key gives
    the same pseudonyms and splits. After an interruption, run the command again and it continues.
    """
    from dentalign import settings
    from dentalign.pseudonymise import pseudonymise

    given = settings.load(params_file, "fetch", "limits")
    done = pseudonymise(
        source, dest, cases=cases, map_file=map_file, planners_file=planners, limits=given.limits,
        keep=given.fetch.keep,
    )  # fmt: skip
    _print_left_out(done.lines)
    typer.echo(f"pseudonymise: {done} -> {dest}", err=True)


@app.command("metrics", epilog=command.EPILOG)
def metrics_(
    file: Annotated[Path, typer.Argument(help="Metrics (JSON) from the pipeline stage validate.")] = Path(
        "metrics/validation.json"
    ),
    as_published: Annotated[
        bool, typer.Option("--as-published", help="Errors as published work counts them, and what is wrong.")
    ] = False,
) -> None:
    """Print the metrics on the test split as a table: model, baselines, true T2."""
    from dentalign.validation.report import tables

    metrics = tables.read(file)
    typer.echo(tables.format_as_published(metrics) if as_published else tables.format_table(metrics))


@app.command("export", epilog=command.EPILOG)
def export_(
    models: Annotated[
        Path, typer.Option(help="Folder with encoder.pt, decoder.pt, alignment.pt, or some of them.")
    ] = Path("models"),
    out: Annotated[Path, typer.Option(help="Folder for encoder.onnx, decoder.onnx, alignment.onnx.")] = Path(
        "onnx"
    ),
) -> None:
    """Write the models as ONNX files; a file whose outputs differ from the model's is not kept.

    Needs dentalign's extra `export`. See docs/models.md for inputs and outputs.
    """
    from dentalign.export import model_export

    for exported in model_export.export_models(models, out):
        said = (
            "NOT verified: onnxruntime is not installed"
            if exported.difference is None
            else f"verified: differs by {exported.difference:.1e} of the largest value"
        )
        typer.echo(f"{exported.path}  {said}")


@app.command("repair", epilog=command.EPILOG)
def repair_(
    root: Annotated[Path, typer.Argument(help="Folder of the DVC repository.")] = Path(),
) -> None:
    """Delete DVC's own files that a killed DVC left half written (`dvc.lock`, `.dvc/tmp/rwlock`).

    DVC does not start with such files; without them, `dvc repro` finds finished stages in its run cache. Run
    `dentalign repair` before an unattended `dvc repro`, as `make repro` does. With a merge conflict in
    `dvc.lock` nothing is deleted (exit code 1): resolve the conflict first.
    """
    from dentalign import repair

    removed = repair.remove_half_written(root)
    for path in removed:
        typer.echo(f"repair: {path}, left half written by a killed DVC, deleted", err=True)
    if not removed:
        typer.echo("repair: nothing is left half written", err=True)


@app.command("doctor", epilog=command.EPILOG)
def doctor_() -> None:
    """Examine this machine and folder: versions, GPU, DVC, disk, models; say what is slow, and the fix.

    Exit code: 0 everything works, if slowly; 1 something is missing.
    """
    from dentalign import doctor
    from dentalign.running import table

    findings = doctor.examine()
    rows = [(one.what, one.found, one.verdict, one.fix) for one in findings]
    table.show(doctor.COLUMNS, rows, sys.stdout)
    if any(one.verdict == "missing" for one in findings):
        raise typer.Exit(1)


@app.command(epilog=command.EPILOG)
def view(
    report: Annotated[Path, typer.Argument(help="An HTML report, or a folder with reports.")] = Path(
        "reports/validation/index.html"
    ),
    export: Annotated[
        Path | None,
        typer.Option(
            help="Copy the report, with the git revision, to this new folder instead of opening it."
        ),
    ] = None,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the report, or only print its path.")
    ] = True,
) -> None:
    """Open a report in the browser, or copy it for others.

    A report is a file that contains everything it shows; no server is needed and nothing is sent.
    """
    import webbrowser

    from dentalign.reports import viewing

    if export is not None:
        typer.echo(str(viewing.export(report, export)))
        return
    page = viewing.page_of(report)
    typer.echo(str(page))
    if browser and not webbrowser.open(page.resolve().as_uri()):
        typer.echo("no browser could be opened here: open the file yourself", err=True)


if __name__ == "__main__":
    main()
