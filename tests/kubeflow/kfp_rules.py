"""The refusals of a KFP API server, and the form of its answers; see kfp_server.py."""

import email
import json
import re
import uuid
from datetime import UTC, datetime, timedelta

import kfp_server_api
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

_TYPES = {
    "NUMBER_INTEGER": int,
    "NUMBER_DOUBLE": (int, float),
    "STRING": str,
    "BOOLEAN": bool,
    "STRUCT": dict,
    "LIST": list,
}
_BOUNDS = ((0, 59), (0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
_NAMES = {
    *[
        "jan",
        "feb",
        "mar",
        "apr",
        "may",
        "jun",
        "jul",
        "aug",
        "sep",
        "oct",
        "nov",
        "dec",
        "sun",
        "mon",
        "tue",
        "wed",
        "thu",
        "fri",
        "sat",
    ]
}


class RefusalError(Exception):
    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


def new_id():
    return str(uuid.uuid4())


def task_row(name, fact):
    """A task's row: (its state, its child's node id, seconds), or the state alone."""
    state, child, seconds = fact if isinstance(fact, tuple) else (fact, "", 2)
    start = datetime(2026, 11, 21, 12, tzinfo=UTC)
    row = {"task_id": new_id(), "display_name": name, "state": state, "start_time": start.isoformat()}
    ended = start + timedelta(seconds=seconds) if state != "RUNNING" else datetime(1970, 1, 1, tzinfo=UTC)  # as KFP
    row["end_time"] = ended.isoformat()
    return row | ({"child_tasks": [{"pod_name": child}]} if child else {})


def page_of(field, found, query):
    for predicate in json.loads(query.get("filter", "{}")).get("predicates", []):
        if predicate["operation"] not in ("EQUALS", 1) or predicate["key"] not in ("display_name", "name"):
            raise RefusalError(400, f"Invalid input error: filter {predicate}")
        found = [one for one in found if one[predicate["key"]] == predicate["stringValue"]]
    key, _, order = query.get("sort_by", "created_at").partition(" ")
    found = sorted(found, key=lambda one: one[key], reverse=order == "desc")
    start, size = int(query.get("page_token", 0)), int(query.get("page_size", 10))
    answer = {field: found[start : start + size], "total_size": len(found)} if found else {}
    return answer | ({"next_page_token": str(start + size)} if start + size < len(found) else {})


def check_length(what, name, most):
    if not name:
        raise RefusalError(400, f"{what} is empty. Please specify a valid name")
    if len(name) > most:
        raise RefusalError(400, f"{what} length cannot exceed {most}")


def check_model(name, body):
    """Refuse fields that the model does not have, and values of another type."""
    if name.startswith("list["):
        return [check_model(name[5:-1], part) for part in body]
    model = getattr(kfp_server_api, name, None)
    if model is None or not getattr(model, "openapi_types", None):
        return None
    if not isinstance(body, dict):
        raise RefusalError(400, f"proto: syntax error: {body!r} is no {name}")
    fields = {wire: model.openapi_types[field] for field, wire in model.attribute_map.items()}
    for field, value in body.items():
        if field not in fields:
            raise RefusalError(400, f'proto: (line 1:1): unknown field "{field}"')
        plain = {"str": str, "bool": bool, "int": int}.get(fields[field])
        if plain and not isinstance(value, plain):
            raise RefusalError(400, f"proto: invalid value for {field}: {value!r}")
        check_model(fields[field], value)
    return None


def parse_files(content_type, body):
    message = email.message_from_bytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body)
    parts = message.get_payload()
    return {part.get_param("name", header="content-disposition"): part.get_payload(decode=True) for part in parts}


def parse_spec(files):
    if "uploadfile" not in files:
        raise RefusalError(400, "Failed to read pipeline from file")
    documents = [document for document in yaml.safe_load_all(files["uploadfile"]) if document]
    if documents[0].get("schemaVersion") != "2.1.0":
        raise RefusalError(400, "Unsupported schema version: only 2.1.0 is supported")
    kinds = (pipeline_spec_pb2.PipelineSpec, pipeline_spec_pb2.PlatformSpec)
    try:  # the server stores what its protocol buffer makes of it: without empty maps, numbers as doubles
        parsed = [json_format.ParseDict(part, kind()) for part, kind in zip(documents, kinds, strict=False)]
    except json_format.ParseError as error:
        raise RefusalError(400, f"Failed to parse the pipeline: {error}") from None
    stored = [json_format.MessageToDict(part) for part in parsed]
    return dict(zip(("pipeline_spec", "platform_spec"), stored, strict=True)) if len(stored) > 1 else stored[0]


def check_trigger(trigger):
    if "cron_schedule" in trigger:
        fields = trigger["cron_schedule"]["cron"].split()
        if len(fields) not in (5, 6):  # the first one is the second, in both
            raise RefusalError(400, f"Schedule cron is not a supported format: 5 to 6 fields, found {len(fields)}")
        for field, (least, most) in zip(fields, _BOUNDS, strict=False):
            numbers = [int(number) for number in re.findall(r"(?<!/)\b\d+", field)]
            words = re.findall(r"[a-zA-Z]+", field)
            if not all(least <= number <= most for number in numbers) or set(words) - _NAMES:
                raise RefusalError(400, f"Schedule cron is not a supported format: {field} is out of range")
    elif int(trigger.get("periodic_schedule", {}).get("interval_second", 0)) < 1:
        raise RefusalError(400, "Found invalid period schedule interval. Set at interval to least 1 second")


def check_parameters(spec, given):
    declared = spec["root"].get("inputDefinitions", {}).get("parameters", {})
    if unknown := sorted(set(given) - set(declared)):
        raise RefusalError(400, f"parameter(s) provided are not required by pipeline: {', '.join(unknown)}")
    for name, facts in declared.items():
        if name not in given and not facts.get("isOptional") and "defaultValue" not in facts:
            raise RefusalError(400, f"parameter {name} is not optional, yet has neither default nor value")
        kind = _TYPES[facts["parameterType"]]
        if name in given and (not isinstance(given[name], kind) or (kind is int and isinstance(given[name], bool))):
            raise RefusalError(400, f"input parameter {name} requires type {facts['parameterType']}")
