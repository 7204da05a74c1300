"""A small list of what was left out, part of it hostile."""

from dentalign.cases.left_out import LeftOut, Totals

TOTALS = Totals(5, 3, 2, 84, 82, 2)
HOSTILE = '<script>document.title="hacked"</script>"&\''


def line(case_id: str, tooth: str, code: str, seen: str = "seen", fix: str = "fix") -> LeftOut:
    return LeftOut(case_id, tooth, "fetch_json", code, seen, fix, f"json/{case_id}.json")


LINES = [
    line("b", "16", "missing_mesh"),
    line("a", "", "not_json", HOSTILE, HOSTILE),
    line("c", "11", "missing_mesh"),
    line("c", "38", "t2_only"),
    line(HOSTILE, "", "too_many_dropped"),
]
