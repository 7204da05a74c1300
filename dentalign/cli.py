"""The command `dentalign`. Each command's heavy imports stay inside it, so that --help is quick."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from dentalign import __version__
from dentalign.running import command

app = typer.Typer(
    name="dentalign",
    help="From orthodontic cases to a predicted treatment target.",
    no_args_is_help=True,
    add_completion=False,
)


def main() -> None:
    """Entry point of the command `dentalign`."""
    command.run(app)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dentalign {__version__}")
        raise typer.Exit


@app.callback()
def dentalign(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    """From orthodontic cases to a predicted treatment target."""


@app.command("list", epilog=command.EPILOG)
def list_(
    source: Annotated[Path, typer.Argument(help="A case store (a folder with json/), or a case list (CSV).")],
    out: Annotated[Path, typer.Option(help="The case list to write.")] = Path("cases.csv"),
    autoencoder: Annotated[
        int, typer.Option(min=0, help="Also list this many cases for the autoencoder.")
    ] = 0,
    autoencoder_out: Annotated[Path, typer.Option(help="Where that list goes.")] = Path(
        "autoencoder_cases.csv"
    ),
) -> None:
    """Write the case list of a case store; what cannot be a case is named on stderr.

    With --autoencoder N also an explicit list of N cases of the train split. Give a case list that
    has patient ids as SOURCE if there are such, because they decide the split.
    """
    from dentalign.cases import case_list
    from dentalign.errors import NothingUsable

    if not source.exists():
        raise typer.BadParameter(f"{source} is not there", param_hint="SOURCE")
    cases, left_out = case_list.read(source, "list") if source.is_file() else case_list.find(source)
    for line in left_out:
        typer.echo(f"skipped: {line.file}: {line.seen}; {line.mend}", err=True)
    if not cases:
        raise NothingUsable(f"{source}: no case is usable, {len(left_out)} skipped")
    case_list.write(out, cases)
    typer.echo(f"list: {len(cases)} cases, {len(left_out)} skipped -> {out}", err=True)
    if autoencoder:
        drawn = case_list.for_autoencoder(cases, autoencoder)
        case_list.write(autoencoder_out, drawn)
        typer.echo(
            f"list: {len(drawn)} of the train split for the autoencoder -> {autoencoder_out}", err=True
        )


@app.command("predict", epilog=command.EPILOG)
def predict_(
    case: Annotated[Path, typer.Option(help="A case (<case_id>.json; T1 is enough), or a folder of cases.")],
    meshes: Annotated[
        str, typer.Option(help="Folder with <FDI>.stl, or folder or URL with <case_id>/<FDI>.stl.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the results.")],
    models: Annotated[
        Path | None,
        typer.Option(
            help="Folder with encoder.pt, decoder.pt and alignment.pt. Default: models/, and encoder.weights "
            "and decoder.weights of the parameters."
        ),
    ] = None,
    extract: Annotated[str, typer.Option(help="Teeth that T2 does without, such as 14,24.")] = "",
    fixed: Annotated[str, typer.Option(help="Teeth that must not move, such as implants: 36,46.")] = "",
    stages: Annotated[
        bool, typer.Option("--stages", help="Also the stages between T1 and T2 (params: predict).")
    ] = False,
    moved: Annotated[str, typer.Option(help="Crowns at each stage: none, stl, or glb.")] = "none",
    poses_only: Annotated[
        bool, typer.Option("--poses-only", help="Case and table, without picture and report: quicker.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    params_file: Annotated[
        Path | None,
        typer.Option("--params", help="Parameters (YAML). Default: params.yaml here, if there is one."),
    ] = None,
) -> None:
    """Predict T2 of new patients from the trained models.

    Writes json/, movement/, picture/ and report/ with a file per case, left_out.csv, and to_look_at.csv: the
    cases and teeth that a person should see to.
    """
    from dentalign import params
    from dentalign.autoencoder.settings import DecoderFile, EncoderFile
    from dentalign.cases.settings import Fetch, Limits, Sample, Source
    from dentalign.prediction import batch
    from dentalign.prediction.files import OutputOptions
    from dentalign.prediction.predictor import Predictor
    from dentalign.prediction.review import Thresholds
    from dentalign.prediction.staging import Predict

    if moved not in ("none", "stl", "glb"):
        raise typer.BadParameter(f"none, stl or glb, got {moved!r}", param_hint="--moved")
    if device not in ("auto", "cpu", "cuda"):
        raise typer.BadParameter(f"auto, cpu or cuda, got {device!r}", param_hint="--device")
    numbers = {"extract": _teeth(extract, "--extract"), "fixed": _teeth(fixed, "--fixed")}
    file = params_file or Path("params.yaml")
    given = params_file is not None or file.is_file()
    own = given and models is None
    limits = params.load(file, Predict, "predict") if given else Predict()
    predictor = Predictor(
        models or "models",
        encoder=params.load(file, EncoderFile, "encoder").weights if own else None,
        decoder=params.load(file, DecoderFile, "decoder").weights if own else None,
        device=device,
        buccal_axis=params.load(file, Source, "source").buccal_axis if given else "+y",
        sample=params.load(file, Sample, "sample") if given else None,
        limits=params.load(file, Limits, "limits") if given else None,
        fetch=params.load(file, Fetch, "fetch") if given else None,
        look=Thresholds(limits.look_above_mm, limits.look_overlap_mm),
    )
    wanted = OutputOptions(stages, moved, not poses_only, limits)  # type: ignore[arg-type]
    done = batch.predict_cases(case, meshes, out, predictor, wanted, **numbers)
    for line in done.left_out:
        tooth = f" tooth {line.tooth}" if line.tooth else ""
        typer.echo(f"left out: case {line.case_id}{tooth}: {line.seen}; {line.mend} [{line.file}]", err=True)
    looks = len({look.case_id for look in done.to_look_at})
    what = f"{len(done.files)} cases, {done.refused} refused, {looks} with something to look at"
    typer.echo(f"predict: {what} -> {out}", err=True)
    if len(done.files) == 1:
        for file in done.files[0]:
            typer.echo(str(file))


def _teeth(text: str, option: str) -> tuple[int, ...]:
    """FDI numbers of a list such as 14,24."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not all(word.isascii() and word.isdigit() for word in words):
        raise typer.BadParameter(f"FDI numbers with commas between, got {text!r}", param_hint=option)
    return tuple(sorted({int(word) for word in words}))


@app.command("check", epilog=command.EPILOG)
def check_(
    source: Annotated[
        Path, typer.Argument(help="A case store (a folder with json/ and stl/), or a case list (CSV).")
    ],
    json: Annotated[
        str | None,
        typer.Option(help="With a case list: JSONs (folder, URL prefix). Default: json/ beside it."),
    ] = None,
    meshes: Annotated[
        str | None, typer.Option(help="Meshes (folder, URL prefix). Default: stl/ of the store.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Also write the table here (CSV).")] = None,
    buccal_axis: Annotated[
        Literal["+y", "-y"] | None,
        typer.Option(help="Tooth-local buccal axis; default: that of params.yaml."),
    ] = None,
    params_file: Annotated[
        Path | None,
        typer.Option("--params", help="Limits come from here; default: params.yaml, if there is one."),
    ] = None,
) -> None:
    """Say what would be left out of a data set, and why, without touching the pipeline's data.

    Exit code: 0 nothing, 1 something would be left out, 3 no case is usable.
    """
    from dentalign import check, params
    from dentalign.cases import left_out
    from dentalign.cases.settings import Fetch, Limits, Source
    from dentalign.errors import NothingUsable

    if not source.exists():
        raise typer.BadParameter(f"{source} is not there", param_hint="SOURCE")
    limits, fetch_settings = Limits(), Fetch()
    axis: Literal["+y", "-y"] = buccal_axis or "+y"
    file = params_file or Path("params.yaml")
    if params_file is not None or file.is_file():
        limits = params.load(file, Limits, "limits")
        fetch_settings = params.load(file, Fetch, "fetch")
        axis = buccal_axis or params.load(file, Source, "source").buccal_axis
    with check.locate(source, json, meshes) as places:
        checked = check.check(places, buccal_axis=axis, limits=limits, fetch_settings=fetch_settings)
    if checked.lines:
        check.show(checked.lines, sys.stdout)
    if out is not None:
        left_out.write_csv(out, checked.lines)
    typer.echo(f"check: {checked.totals}", err=True)
    if not checked.totals.cases_used:
        raise NothingUsable(f"{source}: no case is usable")
    if not checked.all_good:
        raise typer.Exit(1)


@app.command("import", epilog=command.EPILOG)
def import_(
    data_set: Annotated[
        Literal["teethalign3d", "beijing", "teeth3ds"],
        typer.Argument(metavar="FORMAT", help="teethalign3d, beijing or teeth3ds."),
    ],
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Folder of the unpacked download.")],
    dest: Annotated[
        Path, typer.Argument(metavar="DEST", help="Folder for the cases; new, or of this import.")
    ],
    matrices: Annotated[
        Literal["rows", "columns", "rows-own", "columns-own"] | None,
        typer.Option(help="teethalign3d: how its matrices are meant. Default: the data decide."),
    ] = None,
) -> None:
    """Import a public data set into our case layout: json/, stl/, cases.csv, left_out.csv.

    A case is imported whole or not at all; run again, it goes on. docs/public-data-sets.md has the rest.
    """
    from dentalign.importers import import_run

    if matrices and data_set != "teethalign3d":
        raise typer.BadParameter("only teethalign3d has matrices", param_hint="--matrices")
    importer = import_run.importer(data_set, matrices or "")
    imported = import_run.import_cases(importer, source, dest)
    for line in imported.lines:
        tooth = f" tooth {line.tooth}" if line.tooth else ""
        typer.echo(f"left out: case {line.case_id}{tooth}: {line.seen}; {line.mend} [{line.file}]", err=True)
    for name, value in sorted(imported.decisions.items()):
        typer.echo(f"decided: {name}: {value}", err=True)
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
        typer.Option("--map", help="Also write whose pseudonym is whose; outside of git and DVC projects."),
    ] = None,
    params_file: Annotated[
        Path | None,
        typer.Option("--params", help="Limits come from here; default: params.yaml, if there is one."),
    ] = None,
) -> None:
    """Write a case store anew under keyed hashes of case, patient and planner, without any free text.

    The key is DENTALIGN_ID_KEY, a secret of 16 characters or more (openssl rand -hex 32): the same key gives
    the same names and splits. Run again it goes on.
    """
    from dentalign import params
    from dentalign.cases.settings import Limits
    from dentalign.pseudonymise import pseudonymise

    file = params_file or Path("params.yaml")
    given = params_file is not None or file.is_file()
    limits = params.load(file, Limits, "limits") if given else None
    done = pseudonymise(source, dest, cases=cases, map_file=map_file, limits=limits)
    for line in done.lines:
        tooth = f" tooth {line.tooth}" if line.tooth else ""
        typer.echo(f"left out: case {line.case_id}{tooth}: {line.seen}; {line.mend} [{line.file}]", err=True)
    typer.echo(f"pseudonymise: {done} -> {dest}", err=True)


@app.command("metrics", epilog=command.EPILOG)
def metrics_(
    file: Annotated[Path, typer.Argument(help="The metrics that the stage validate wrote.")] = Path(
        "metrics/validation.json"
    ),
) -> None:
    """Print the figures on the test split as a table: model, baselines, true T2."""
    from dentalign.validation.report import tables

    typer.echo(tables.format_table(tables.read(file)))


@app.command("export", epilog=command.EPILOG)
def export_(
    models: Annotated[
        Path, typer.Option(help="Folder with encoder.pt, decoder.pt, alignment.pt, or some of them.")
    ] = Path("models"),
    out: Annotated[Path, typer.Option(help="Folder for encoder.onnx, decoder.onnx, alignment.onnx.")] = Path(
        "onnx"
    ),
) -> None:
    """Write the models as ONNX files, each held to the model in onnxruntime before it gets its name.

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
    root: Annotated[Path, typer.Argument(help="The repository.")] = Path(),
) -> None:
    """Delete files of DVC's own that a killed DVC left half written (`dvc.lock`, `.dvc/tmp/rwlock`).

    DVC refuses to start with them; `dvc repro` then finds in its cache of runs what was finished. Run it
    before an unattended `dvc repro`, as `make repro` does. A merge conflict in `dvc.lock` is yours to
    resolve: exit code 1, nothing deleted.
    """
    from dentalign import repair

    for path in repair.remove_half_written(root):
        typer.echo(f"repair: {path}, left half written by a killed DVC, deleted", err=True)


@app.command(epilog=command.EPILOG)
def view(
    report: Annotated[Path, typer.Argument(help="An HTML report, or a folder with reports.")] = Path(
        "reports/validation/index.html"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 0,
    browser: Annotated[bool, typer.Option(help="Open it in the browser.")] = True,
) -> None:
    """Serve a report to the browser of this machine, with the git revision; Ctrl-C ends it (code 0).

    Only this machine can reach it, and nothing outside the report's folder is served.
    """
    import webbrowser

    from dentalign.reports.report_server import ReportServer

    try:
        with ReportServer(report, port) as server:
            typer.echo(f"{server.url}  (Ctrl-C ends)")
            if browser and not webbrowser.open(server.url):
                typer.echo("no browser could be opened here: open the address yourself", err=True)
            server.serve_forever()
    except KeyboardInterrupt:  # the only way to end it: the work is done
        typer.echo("view: ended", err=True)


if __name__ == "__main__":
    main()
