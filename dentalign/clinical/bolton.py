"""Tooth size ratios of the arches (Bolton 1958)."""

from collections.abc import Mapping

from dentalign.clinical.mouth_points import MouthPoints, NotMeasurable, arch_teeth, listed


def overall_percent(mouth: MouthPoints) -> float:
    """Bolton's overall ratio: widths of the twelve lower teeth, 6 to 6, in percent of the twelve upper ones.

    Norm 91.3 +- 1.91 %. Not measurable where one of the 24 permanent teeth is missing, extracted or primary.
    Source: Bolton 1958, "Disharmony in tooth size and its relation to the analysis and treatment of
    malocclusion", Angle Orthod 28(3):113-130.
    """
    return _ratio(_widths(mouth, 6), 6)


def anterior_percent(mouth: MouthPoints) -> float:
    """Bolton's anterior ratio: widths of the six lower front teeth in percent of the six upper ones.

    Norm 77.2 +- 1.65 %. Not measurable where one of the twelve permanent teeth is missing, extracted or
    primary. Source: as `overall_percent`.
    """
    return _ratio(_widths(mouth, 3), 3)


def ratios_of_widths(widths: Mapping[int, float]) -> tuple[float, float]:
    """Overall and anterior ratio, percent, of measured widths: FDI number -> mm, of the 24 teeth 6 to 6."""
    return _ratio(widths, 6), _ratio(widths, 3)


def exported_percent(mouth: MouthPoints, widths: Mapping[int, float], last: int) -> float:
    """Bolton's ratio of the widths that an export gives, see `overall_percent`.

    Not measurable where one of the permanent teeth is missing, extracted or primary, or has no width there.

    widths : FDI number -> mm
    last   : 6 for the overall ratio, 3 for the anterior one
    """
    teeth = [*arch_teeth("upper", last), *arch_teeth("lower", last)]
    mouth.require(*teeth)
    if without := [fdi for fdi in teeth if fdi not in widths]:
        raise NotMeasurable(f"the export gives no width of {listed(without)}")
    return _ratio(widths, last)


def _widths(mouth: MouthPoints, last: int) -> dict[int, float]:
    teeth = [*arch_teeth("upper", last), *arch_teeth("lower", last)]
    mouth.require(*teeth)
    return {fdi: mouth.width(fdi) for fdi in teeth}


def _ratio(widths: Mapping[int, float], last: int) -> float:
    lower, upper = (sum(widths[fdi] for fdi in arch_teeth(arch, last)) for arch in ("lower", "upper"))
    return 100 * lower / upper
