"""Command `dentalign`; modules are imported inside the subcommands that use them, so that --help is quick."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from dentalign import __version__
from dentalign.running import command

if TYPE_CHECKING:
    from dentalign.cases.left_out import LeftOut

_PARAMS_HELP = "Parameters (YAML). Default: params.yaml in the working folder, if there is one."

app = typer.Typer(
    name="dentalign",
    help="Predict orthodontic treatment targets (T2) from cases at T1.",
    no_args_is_help=True,
    add_completion=False,
)


def main() -> None:
    """Run the command `dentalign`."""
    command.run(app)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dentalign {__version__}")
        raise typer.Exit


@app.callback()
def dentalign(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
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
    case: Annotated[Path, typer.Option(help="Case (<case_id>.json; T1 is enough), or folder of cases.")],
    meshes: Annotated[
        str, typer.Option(help="Folder with <FDI>.stl, or folder or URL with <case_id>/<FDI>.stl.")
    ],
    out: Annotated[Path, typer.Option(help="Folder to write the results into.")],
    models: Annotated[
        Path | None,
        typer.Option(
            help="Folder with encoder.pt, decoder.pt and alignment.pt. Default: models/alignment.pt, and the "
            "files in the parameters encoder.weights and decoder.weights."
        ),
    ] = None,
    prescription: Annotated[
        Path | None,
        typer.Option(
            help="Wishes for the plan (YAML, docs/prescription.md); --extract and --fixed add to them."
        ),
    ] = None,
    extract: Annotated[str, typer.Option(help="FDI numbers of teeth to extract, such as 14,24.")] = "",
    fixed: Annotated[
        str, typer.Option(help="FDI numbers of teeth that must not move, such as implants: 36,46.")
    ] = "",
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
    device: Annotated[
        Literal["auto", "cpu", "cuda"],
        typer.Option(help="Device of the models; auto: the GPU if there is one."),
    ] = "auto",
    params_file: Annotated[Path | None, typer.Option("--params", help=_PARAMS_HELP)] = None,
) -> None:
    """Predict T2 of new patients with the trained models.

    Writes json/, movement/, picture/ and report/ with a file per case. Also writes left_out.csv and
    to_look_at.csv, with the cases and teeth that a clinician should review.
    """
    from dentalign import settings
    from dentalign.planning.prescription import Prescription
    from dentalign.planning.prescription import read as read_prescription
    from dentalign.prediction import batch
    from dentalign.prediction.files import OutputOptions
    from dentalign.prediction.predictor import Predictor
    from dentalign.prediction.review import UNLIKE_TRAINING, Thresholds

    rx = read_prescription(prescription) if prescription else Prescription()
    rx = rx.joined(extract=_teeth(extract, "--extract"), fixed=_teeth(fixed, "--fixed"))
    sections = ("source", "fetch", "limits", "sample", "encoder", "decoder", "planning", "predict")
    given = settings.load(params_file, *sections)
    predictor = Predictor(
        models or "models",
        encoder=None if models else given.encoder.weights,
        decoder=None if models else given.decoder.weights,
        device=device,
        buccal_axis=given.source.buccal_axis if buccal_axis == "auto" else buccal_axis,
        find_axis=buccal_axis == "auto",
        sample=given.sample if "sample" in given.model_fields_set else None,  # None: as the encoder needs it
        limits=given.limits,
        fetch=given.fetch,
        look=Thresholds(
            given.predict.look_above_mm, given.predict.look_overlap_mm, given.predict.look_occlusal_mm
        ),
        planning=None if no_solver else given.planning,
    )
    wanted = OutputOptions(stages, moved, not poses_only, given.predict)
    done = batch.predict_cases(case, meshes, out, predictor, wanted, rx)
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


def _print_left_out(lines: Iterable["LeftOut"]) -> None:
    for line in lines:
        tooth = f" tooth {line.tooth}" if line.tooth else ""
        typer.echo(f"left out: case {line.case_id}{tooth}: {line.seen}; {line.fix} [{line.file}]", err=True)


def _teeth(text: str, option: str) -> tuple[int, ...]:
    """Parse a list of FDI numbers such as 14,24 or 13-23."""
    from dentalign.planning.prescription import parse_teeth

    try:
        return parse_teeth(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None


@app.command("check", epilog=command.EPILOG)
def check_(
    source: Annotated[
        Path, typer.Argument(help="Case store (a folder with json/ and stl/), or case list (CSV).")
    ],
    json: Annotated[
        str | None,
        typer.Option(help="JSONs of a case list (folder or URL prefix). Default: json/ beside the list."),
    ] = None,
    meshes: Annotated[
        str | None,
        typer.Option(
            help="Meshes (folder or URL prefix). Default: stl/ of the case store, or beside the case list."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Also write the table into this file (CSV).")] = None,
    buccal_axis: Annotated[
        Literal["+y", "-y"] | None,
        typer.Option(
            help="Buccal axis of the exporter's tooth-local frame. Default: source.buccal_axis of the "
            "parameters."
        ),
    ] = None,
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
    if checked.for_predict:
        typer.echo(f"check: {checked.for_predict} cases usable for predict, not for training", err=True)
    elif not checked.totals.cases_used:
        raise NothingUsable(f"{source}: no case is usable")
    if any(remark.pointless for remark in checked.remarks):
        raise NothingUsable(f"{source}: nothing to learn from")
    if not checked.all_good:
        raise typer.Exit(1)


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
    params_file: Annotated[Path | None, typer.Option("--params", help=_PARAMS_HELP)] = None,
) -> None:
    """Copy a case store with keyed hashes in place of case, patient and planner names, without any free text.

    The key is DENTALIGN_ID_KEY, a secret of 16 characters or more (openssl rand -hex 32): the same key gives
    the same pseudonyms and splits. After an interruption, run the command again and it continues.
    """
    from dentalign import settings
    from dentalign.pseudonymise import pseudonymise

    limits = settings.load(params_file, "limits").limits
    done = pseudonymise(source, dest, cases=cases, map_file=map_file, limits=limits)
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
