"""The planning system's JSON, and that nothing but the allow-listed fields leaves it."""

import gzip
import json
from collections.abc import Callable
from typing import Any

import pytest

from dentalign.cases import case_document
from dentalign.cases.case_document import CaseDocument, as_json, canonical, parse
from dentalign.cases.poses import stage_poses
from dentalign.errors import CaseDefect

Build = Callable[..., dict[str, Any]]


def encode(document: Any) -> bytes:
    return json.dumps(document).encode()


def code_of(data: bytes, case_id: str = "c1", **options: Any) -> str:
    with pytest.raises(CaseDefect) as caught:
        parse(data, case_id, "x/c1.json", **options)
    assert caught.value.file == "x/c1.json"
    return caught.value.code


def test_only_allow_listed_fields_are_kept(pose: Build) -> None:
    given = {
        "CaseID": "c1",
        "T2Stage": "1",
        "PatientName": "Ivan",
        "maxillaRelativeTransform": {},
        "mandibularRelativeTransform": {**pose(1), "by": "Dr X"},
        "Staging": [
            {
                "Stage": "0",
                "Note": "n",
                "MaxillaryTransform": {},
                "RelativeToothTransforms": {"37": pose("1.5", "-2e0", 3)},
            }
        ],
    }
    assert as_json(parse(encode(given), "c1")) == {
        "CaseID": "c1",
        "T2Stage": 1,
        "mandibularRelativeTransform": pose(1),
        "Staging": [{"Stage": 0, "RelativeToothTransforms": {"37": pose(1.5, -2, 3)}}],
    }


def test_personal_data_in_every_place_leaves_no_trace(document: Build, pose: Build) -> None:
    planted = ["Ivan Petrov", "ivan@clinic.org", "1987-05-12", "19870512", "+7 916 123-45-67", 79161234567]

    def plant(value: Any) -> Any:
        if isinstance(value, dict):
            extra = {f"x{i}": text for i, text in enumerate(planted)}
            return (
                {key: plant(item) for key, item in value.items()}
                | extra
                | {"Ivan Petrov": {"ivan@clinic.org": 1}}
            )
        return [plant(item) for item in value] + planted if isinstance(value, list) else value

    given = plant(document(mandibularRelativeTransform=pose(*planted[:3])))
    teeth = given["Staging"][0]["ToothTransforms"]
    for fdi, text in zip(("11", "12", "21", "36"), planted[2:], strict=True):
        teeth[fdi]["translation"]["x"] = text
    teeth["22"] = "Ivan Petrov"
    teeth["23"] = {"rotation": ["Ivan Petrov"], "translation": "1987-05-12"}
    given["Staging"][0] |= {"Stage": "1987-05-12", "MaxillaryTransform": "Ivan Petrov"}
    given["Staging"][1] |= {"RelativeToothTransforms": "ivan@clinic.org"}
    given["T2Stage"] = "Ivan Petrov"
    kept = canonical(parse(encode(given), "c1")).decode()
    for text in [*planted, "Ivan", "1987", "7916", "clinic"]:
        assert str(text) not in kept


def test_what_was_no_number_stays_a_defect_after_sanitising(document: Build) -> None:
    given = document()
    given["Staging"][0]["ToothTransforms"]["11"]["translation"]["x"] = "Ivan"
    given["Staging"][0]["ToothTransforms"]["12"]["rotation"] = "Ivan"
    given["T2Stage"] = "Ivan"
    again = parse(canonical(parse(encode(given), "c1")), "c1")
    teeth = again.staging[0].teeth
    assert teeth is not None
    assert teeth["11"] is not None
    assert teeth["11"].translation is not None
    assert teeth["11"].translation.x is None
    assert teeth["12"] is not None
    assert teeth["12"].rotation is None
    assert again.t2_stage is not None
    assert again.t2_stage != again.t2_stage


def test_sanitising_twice_is_sanitising_once(document: Build, pose: Build) -> None:
    given = document(
        maxillaRelativeTransform=pose(float("nan"), "Infinity", "x"), mandibularRelativeTransform={"a": 1}
    )
    once = canonical(parse(encode(given), "c1"))
    assert canonical(parse(once, "c1")) == once
    json.loads(once, parse_constant=lambda token: pytest.fail(f"{token} is not legal JSON"))


def test_the_order_of_keys_does_not_matter(document: Build) -> None:
    given = document()
    turned = json.loads(json.dumps(given), object_pairs_hook=lambda pairs: dict(reversed(pairs)))
    assert canonical(parse(encode(given), "c1")) == canonical(parse(encode(turned), "c1"))


def test_a_byte_order_mark_and_cyrillic_text_are_read(document: Build) -> None:
    text = json.dumps(document(PatientName="Иван"), ensure_ascii=False)
    assert isinstance(parse(b"\xef\xbb\xbf" + text.encode(), "c1"), CaseDocument)


def test_an_empty_jaw_pose_is_absent_and_a_strange_one_is_not(document: Build) -> None:
    read = parse(
        encode(document(maxillaRelativeTransform={}, mandibularRelativeTransform={"matrix": [1]})), "c1"
    )
    assert read.maxilla is None
    assert read.mandible is not None
    assert read.mandible.rotation is None


def test_tooth_keys_that_are_no_numbers_are_counted_and_dropped(document: Build, pose: Build) -> None:
    given = document()
    for stage in given["Staging"]:
        stage["ToothTransforms"] |= {
            "Ivan": pose(),
            "1.1": pose(),
            "0x1": pose(),
            "\ud800": pose(),
            "99": pose(),
        }
    read = parse(encode(given), "c1")
    assert read.unknown_tooth_keys == 4
    assert set(read.staging[0].teeth or ()) == {"11", "12", "21", "36", "99"}


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "not_json"),
        (b'{"CaseID": "c1", "Stag', "not_json"),
        (b"<!DOCTYPE html><title>Log in</title>", "not_json"),
        (b"\xef\xbb\xbf\n <html>", "not_json"),
        (b"[1]", "not_a_case"),
        (b'"c1"', "not_a_case"),
        (b'{"Staging": [\xff]}', "not_utf8"),
        (b"[" * 100_000 + b"]" * 100_000, "nested_too_deep"),
        (b'{"a":' * 100_000, "nested_too_deep"),
        (b'{"CaseID": "c2", "Staging": [{}]}', "case_id_differs"),
        (b'{"CaseID": "../../c1", "Staging": [{}]}', "case_id_differs"),
        (b'{"CaseID": {"a": 1}, "Staging": [{}]}', "case_id_differs"),
        (b"{}", "no_stages"),
        (b'{"Staging": []}', "no_stages"),
        (b'{"Staging": {"0": 1}}', "no_stages"),
        (b'{"Staging": [{}], "T2Stage": 1, "T2Stage": 2}', "double_key"),
        (b'{"Staging": [{"ToothTransforms": {"11": {}, "11": {}}}]}', "double_key"),
    ],
)
def test_a_document_that_is_no_case_has_a_reason(data: bytes, code: str) -> None:
    assert code_of(data) == code


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0a\nsize 9\n",
            "a Git LFS pointer; run `git lfs",
        ),
        (gzip.compress(b"{}", mtime=0), "a gzip file; unpack it"),
        (b"PK\x03\x04\x14\x00", "a zip file; unpack it"),
        (b"<html>Log in</html>", "a web page or XML; check the address"),
    ],
)
def test_what_lies_there_in_place_of_a_case_is_named(data: bytes, said: str) -> None:
    with pytest.raises(CaseDefect) as caught:
        parse(data, "c1")
    assert f"not_json: not JSON: {said}" in str(caught.value)


@pytest.mark.parametrize(
    ("inside", "fix"),
    [
        ("1623", "rename the file to 1623.json, its folder of meshes to 1623; remove it"),
        (1623, "rename the file to 1623.json"),
        ("../../etc/1623", "export it again under its own name; remove it"),
        ("Ivan Petrov", "export it again under its own name; remove it"),
        ({"a": 1}, "export it again under its own name"),
    ],
)
def test_a_case_under_another_name_says_which_unless_it_can_be_no_file_name(
    document: Build, inside: Any, fix: str
) -> None:
    with pytest.raises(CaseDefect) as caught:
        parse(encode(document(inside)), "c1")
    assert caught.value.code == "case_id_differs"
    assert caught.value.fix.startswith(fix)


def test_a_document_over_the_limit_is_refused(document: Build) -> None:
    assert code_of(encode(document(filler="x" * 2_000)), max_mb=0.002) == "too_large"


@pytest.mark.parametrize("inside", ["1623", 1623, " 1623 ", None])
def test_the_case_id_inside_may_be_a_number_or_absent(document: Build, inside: Any) -> None:
    assert parse(encode(document(inside)), "1623").case_id == "1623"


@pytest.mark.parametrize("number", ["1" * 5_000, "9" * 25, "1e999", "-1e400"])
def test_numbers_beyond_reason_are_read_without_failing(number: str) -> None:
    data = (
        b'{"Staging": [{"ToothTransforms": {"11": {"translation": {"x": %s}}}}], "CaseID": "c1"}'
        % number.encode()
    )
    teeth = parse(data, "c1").staging[0].teeth
    assert teeth is not None
    assert teeth["11"] is not None
    assert teeth["11"].translation is not None
    assert teeth["11"].translation.x in (None, float("inf"), float("-inf"))


# As they stand in a file; what is quick and what looks closely must see the same in each.
NUMBERS = ["0", "-0", "-0.0", "1e5", "1.5E-3", "100000.1", "-7", "0.1", "5e-324", "1e400", "NaN", "-Infinity"]
NUMBERS += ["9" * 19, "9" * 25, "-" + "9" * 25, "9" * 400, "-" + "9" * 400, '"1.5"', '"9:9"', "true", "null"]


@pytest.mark.parametrize("number", NUMBERS)
def test_a_document_is_read_the_same_with_and_without_an_escape_in_it(number: str) -> None:
    text = '{"T2Stage": %s, "Staging": [{"ToothTransforms": {"11": {"translation": {"x": %s}}}}], "N": "%s"}'
    quick, close = (
        parse((text % (number, number, note)).encode(), "c1").model_dump_json()
        for note in ("an escape", "\\u0061n escape")
    )
    assert quick == close


@pytest.mark.parametrize(
    "data",
    [
        b'{"T2Stage": 1, "Staging": [{}], "T2Stage": 1}',
        b'{"T2Stage": 1, "Staging": [{}], "T2Stage": 1, "Note": "no colon, an escaped one: \\u003a"}',
        b'{"T2Stage": 1, "Staging": [{}], "T2Stage": 1, "Note": "08:15"}',
        b'{"Staging": [{"ToothTransforms": {"11": {"rotation": {"x": 1, "y": 0, "x": 1}}}}]}',
        b'{"Staging": [{"ToothTransforms": {"1\\u0031": {}, "11": {}}}]}',
    ],
)
def test_a_key_that_stands_twice_is_noticed_whatever_else_stands_there(data: bytes) -> None:
    assert code_of(data) == "double_key"


@pytest.mark.parametrize("t2_stage", ["2", 0, 4, 3.0, "4", 5, -1, 1.5, "x", None, "nan"])
def test_the_stages_of_t1_and_t2_can_be_read_alone(document: Build, pose: Build, t2_stage: Any) -> None:
    given = document(T2Stage=t2_stage)
    given["Staging"].append({"ToothTransforms": {"11": pose(9)}})
    whole, ends = (parse(encode(given), "c1", ends_only=only) for only in (False, True))

    def outcome(of: CaseDocument) -> Any:
        try:
            found = stage_poses(of, require_t2=False)
        except CaseDefect as defect:
            return str(defect)
        poses = [found.t1, found.t2 or {}]
        return found.defects, found.t2_only, [{n: m.tolist() for n, m in each.items()} for each in poses]

    assert outcome(ends) == outcome(whole)
    assert len(ends.staging) == 4
    assert 1 <= sum(stage.teeth is not None for stage in ends.staging) <= 2


def test_stages_that_are_no_objects_keep_their_position() -> None:
    assert len(parse(b'{"Staging": [{}, null, "x", 5]}', "c1").staging) == 4


def test_a_missing_file_is_a_defect_of_the_case(tmp_path: Any) -> None:
    with pytest.raises(CaseDefect, match="not_found"):
        case_document.read(tmp_path / "none.json", "none")
