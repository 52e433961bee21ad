"""stream/contract.py: the payloads, against the schemas and the contract's own examples."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import ValidationError

from stream.contract import (
    Event,
    Offline,
    Phase,
    Severity,
    Status,
    Value,
    envelope,
)
from stream.session import State
from tests import samples
from tests.wire import check, check_payload, schema

AT = "2026-11-24T12:00:00.000Z"

# Word for word from the contract.
EXAMPLES = {
    "status": '{"boot_id":"7f3a9c2e","connection":3,"seq":4,"at":"2026-11-24T12:00:00.000Z",'
    '"state":"online","phase":"serving","reason":null}',
    "worker-memory": '{"window_s":1.0,"allocated_bytes":184320000,"allocated_peak_bytes":195140000,'
    '"reserved_bytes":214748364,"reserved_peak_bytes":214748364,"segments":42,'
    '"baseline_allocated_bytes":184320000,"baseline_reserved_bytes":214748364,'
    '"new_device_allocations_total":0,"alloc_retries_total":0,"out_of_memory_total":0,'
    '"device_free_bytes":8100000000,"device_size_bytes":8500000000,"worker_rss_bytes":310000000,'
    '"node_rss_bytes":41000000,"reserved_slope_bytes_per_min":0,"rss_slope_bytes_per_min":0}',
    "worker-summary": '{"window_s":1.0,"starts_total":1,"sessions":7,"batch_size":8,"shapes":1,'
    '"recompilations_total":0,"batches_full_total":9000,"batches_everyone_total":200,'
    '"batches_timeout_total":64,"frames_arrived_total":74010,"frames_overwritten_total":12,'
    '"frames_late_total":3,"frames_abandoned_total":0,"frames_waiting":5,'
    '"frames_batched_total":73990,"frames_in_flight":6,"frames_failed_total":0,'
    '"frames_emitted_total":73984,"frames_unsent_total":0,"frames_filled_total":122,'
    '"busy_ratio":0.71,"age_slope_ms_per_min":0.0,'
    '"age_ms":{"count":210,"p50":41.0,"p95":58.2,"p99":63.0,"max":71.4}}',
    "worker-batch": '{"batch":9263,"batch_size":8,"real":6,"fill":2,"closed_by":"timeout",'
    '"wait_ms":8.0,"copy_in_ms":0.4,"compute_ms":9.3,"copy_out_ms":0.5,'
    '"before_allocated_bytes":184320000,"before_reserved_bytes":214748364,'
    '"after_allocated_bytes":184320000,"after_reserved_bytes":214748364,'
    '"allocated_peak_bytes":195140000,"reserved_peak_bytes":214748364}',
    "session": '{"state":"live","reason":null,"since":"2026-11-24T11:58:02Z","worker":0,'
    '"source":"webrtc","avatar":"aya","viewers":2}',
    "event": '{"event_type":"memory_grew","severity":"error","worker":0,"session":null,'
    '"message":"worker 0 took 2 new device allocations",'
    '"data":{"new_device_allocations":2,"snapshot":"17.pickle"}}',
}
LEFT_OUT = {
    "worker-summary": {"wait_ms", "copy_in_ms", "compute_ms", "copy_out_ms"},  # "also the spreads"
}

VALUES: dict[str, Value] = {
    "status": Status(3, Phase.SERVING),
    "info": samples.INFO,
    "overview": samples.OVERVIEW,
    "event": samples.event(),
    "worker/0/memory": samples.MEMORY,
    "worker/0/summary": samples.SUMMARY,
    "worker/0/batch": samples.BATCH,
    "session/aya": samples.session("aya", State.LIVE, 2),
}


def said(value: Value) -> bytes:
    return envelope(value, "7f3a9c2e", 4, AT)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_schemas_name_exactly_the_fields_of_the_contracts_examples(name: str) -> None:
    example: dict[str, Any] = {"boot_id": "7f3a9c2e", "seq": 4, "at": AT}
    example |= json.loads(EXAMPLES[name])
    for spread in LEFT_OUT.get(name, ()):
        example[spread] = example["age_ms"]
    check_payload(name, json.dumps(example).encode())
    assert set(example) == set(schema(name)["properties"]) == set(schema(name)["required"])


@pytest.mark.parametrize("topic", VALUES)
def test_every_value_says_what_its_schema_asks_under_its_own_topic(topic: str) -> None:
    value = VALUES[topic]
    assert value.topic == topic
    payload = check(f"omokage/1/a/{topic}", said(value))
    assert payload["boot_id"] == "7f3a9c2e" and payload["seq"] == 4 and payload["at"] == AT


@pytest.mark.parametrize("topic", VALUES)
def test_a_payload_without_one_of_its_fields_is_refused_by_its_schema(topic: str) -> None:
    payload = json.loads(said(VALUES[topic]))
    for name in payload:
        fewer = {key: value for key, value in payload.items() if key != name}
        with pytest.raises(ValidationError):
            check(f"omokage/1/a/{topic}", json.dumps(fewer).encode())


def test_the_topics_are_sent_as_the_contracts_table_says() -> None:
    table = {
        "status": (True, 1, None),
        "info": (True, 1, None),
        "overview": (True, 0, 120),
        "event": (False, 1, None),
        "worker/0/memory": (True, 0, 60),
        "worker/0/summary": (True, 0, 60),
        "worker/0/batch": (False, 0, 10),
        "session/aya": (True, 1, None),
    }
    rules = {topic: value.rule for topic, value in VALUES.items()}
    assert {it: (r.kept, r.qos, r.expiry_s) for it, r in rules.items()} == table


def test_the_last_word_of_a_session_is_not_kept() -> None:
    assert not samples.session("aya", State.ENDED).rule.kept


def test_the_will_has_no_seq_no_instant_and_no_phase() -> None:
    will = json.loads(envelope(Status(7, None, Offline.LOST), "7f3a9c2e", None, None))
    check_payload("status", json.dumps(will).encode())
    assert will == {
        "boot_id": "7f3a9c2e", "connection": 7, "seq": None, "at": None,
        "state": "offline", "phase": None, "reason": "lost",
    }  # fmt: skip


def test_without_cuda_only_the_process_memory_is_a_number() -> None:
    payload = json.loads(said(samples.MEMORY))
    numbers = {name for name, value in payload.items() if value is not None}
    numbers -= {"boot_id", "seq", "at"}
    assert numbers == {
        "window_s", "worker_rss_bytes", "node_rss_bytes", "rss_slope_bytes_per_min",
    }  # fmt: skip


def test_an_event_stays_under_four_kib_whatever_it_is_given() -> None:
    value = Event("worker_lost", Severity.ERROR, "面" * 5000, data={"trace": "x" * 5000})
    payload = check_payload("event", said(value))
    assert payload["message"].startswith("面面") and payload["data"] == {}


def test_an_unbalanced_summary_is_caught() -> None:
    short = replace(samples.SUMMARY, frames=replace(samples.FRAMES, late=4))
    with pytest.raises(AssertionError):
        check_payload("worker-summary", said(short))


def test_what_json_cannot_say_raises() -> None:
    with pytest.raises(ValueError):
        said(replace(samples.event(), data={"ratio": float("nan")}))


def test_every_event_that_a_worker_tells_is_one_of_the_contract_s() -> None:
    root = Path(__file__).resolve().parent.parent / "workers"
    told = {
        event
        for module in root.glob("*.py")
        for event in re.findall(r'Happened\(\s*"(\w+)"', module.read_text())
    }
    assert {"memory_grew", "batches_failed", "frames_unsound"} <= told
    assert told <= {*schema("event")["properties"]["event_type"]["enum"]}
