"""Tooth and reason code for each kind of defect in the cases of realteeth."""

CODES = {
    "malformed_json": ("", "not_json"),
    "t2_stage_out_of_range": ("", "bad_t2_stage"),
    "zero_quaternion": ("16", "zero_quaternion"),
    "nan_translation": ("16", "pose_not_finite"),
    "unknown_tooth_number": ("99", "unknown_tooth"),
    "primary_and_permanent_in_one_slot": ("55", "slot_conflict"),
    "path_traversal_case_id": ("", "case_id_differs"),
    "missing_stl": ("16", "missing_mesh"),
    "truncated_stl": ("16", "truncated_mesh"),
    "empty_stl": ("16", "empty_mesh"),
    "no_facets": ("16", "empty_mesh"),
    "zero_area_mesh": ("16", "mesh_without_area"),
    "mesh_in_metres": ("16", "mesh_size"),
    "mesh_in_micrometres": ("16", "mesh_size"),
}

IN_THE_MESH = {
    "truncated_stl",
    "empty_stl",
    "no_facets",
    "zero_area_mesh",
    "mesh_in_metres",
    "mesh_in_micrometres",
}
