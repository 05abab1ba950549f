"""Connections in defs.yaml: what is read, and what is said of a mistake."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import yaml

import crm_assets
from crm_assets.connections import ConnectionSpec, load_connections, unknown_object
from crm_assets.core.errors import ConfigurationError

Write = Callable[..., Path]

SHIPPED = Path(crm_assets.__file__).parent / "defs"

MINIMAL = """
type: crm_assets.components.CrmConnection
attributes:
  connection: acme
  connector: salesforce
  url: http://127.0.0.1:1
  objects:
    Contact: {}
"""


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a defs.yaml and returns the folder that holds all of them."""

    def write(text: str, folder: str = "acme") -> Path:
        directory = tmp_path / "defs" / folder
        directory.mkdir(parents=True)
        (directory / "defs.yaml").write_text(dedent(text), encoding="utf-8")
        return tmp_path / "defs"

    return write


def mistake(defs: Path) -> str:
    """The message that a broken defs.yaml gets: always one line."""
    with pytest.raises(ConfigurationError) as caught:
        load_connections(defs)
    message = str(caught.value)
    assert "\n" not in message
    return message


def attributes(**more: Any) -> str:
    """A defs.yaml with one key per line, changed or extended by ``more`` (None removes a key)."""
    document = yaml.safe_load(MINIMAL)
    document["attributes"] |= more
    document["attributes"] = {key: value for key, value in document["attributes"].items() if value is not None}
    return yaml.safe_dump(document, sort_keys=False)


def test_the_shipped_connection_is_salesforce_on_the_sandbox() -> None:
    spec = load_connections(SHIPPED)["salesforce"]
    assert (spec.connector, spec.url, spec.conflict) == ("salesforce", "http://127.0.0.1:8700", "hold")
    assert spec.credentials == {
        "client_id": "SALESFORCE_CLIENT_ID",
        "client_secret": "SALESFORCE_CLIENT_SECRET",
        "webhook_secret": "SALESFORCE_WEBHOOK_SECRET",
    }
    assert {name: (choice.write, choice.external_id) for name, choice in spec.objects.items()} == {
        **dict.fromkeys(("Account", "Contact", "Lead", "Opportunity", "Product2"), (True, "Crm_Assets_Row_Id__c")),
        "User": (False, None),
    }
    assert list(spec.tables()) == ["account", "contact", "lead", "opportunity", "product2", "user"]


@pytest.mark.parametrize(
    ("environment", "call", "longest"),
    [
        ({}, 10, 20),
        ({"SALESFORCE_URL": "https://acme.my.salesforce.com"}, 120, 600),
        ({"SALESFORCE_URL": "https://acme.my.salesforce.com", "SALESFORCE_LONGEST_CALL_SECONDS": "30"}, 120, 30),
        ({"SALESFORCE_CALL_TIMEOUT_SECONDS": "2.5"}, 2.5, 20),
    ],
)
def test_time_limits_follow_from_where_it_connects_to(
    environment: dict[str, str], call: float, longest: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write without a reply waits for the longest server time: ten minutes would be absurd for the sandbox."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    spec = load_connections(SHIPPED)["salesforce"]
    config = spec.config()
    assert (config.call_timeout, config.longest_call) == (timedelta(seconds=call), timedelta(seconds=longest))
    assert config.url == environment.get("SALESFORCE_URL", "http://127.0.0.1:8700")


def test_defaults_of_what_is_not_written(write: Write) -> None:
    spec = load_connections(write(MINIMAL))["acme"]
    contact = spec.objects["Contact"]
    assert (spec.schedule, spec.conflict, spec.call_timeout_seconds, spec.longest_call_seconds) == (
        "* * * * *",
        "hold",
        120,
        600,
    )
    assert (contact.write, contact.external_id, contact.fields, contact.where) == (False, None, "*", None)


def test_several_connections_in_one_file_and_in_several(write: Write) -> None:
    other = MINIMAL.replace("acme", "globex")
    write(f"{MINIMAL}\n---\n{other}")
    defs = write(MINIMAL.replace("acme", "initech"), "initech")
    assert sorted(load_connections(defs)) == ["acme", "globex", "initech"]


def test_components_of_other_packages_are_not_ours_to_read(write: Write) -> None:
    defs = write("type: dagster.TemplatedSqlComponent\nattributes:\n  sql_template: '{{ whatever }}'\n")
    assert load_connections(defs) == {}


def test_templates_read_the_environment(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACME_URL", "https://acme.example.com/")
    defs = write(
        attributes(
            url="{{ env.ACME_URL }}",
            objects={
                "Contact": {"where": "{{ env('ACME_WHERE', \"Name != ''\") }}", "write": "{{ env('ACME_W', 'true') }}"}
            },
        )
    )
    spec = load_connections(defs)["acme"]
    assert spec.config().url == "https://acme.example.com"
    assert spec.objects["Contact"].where == "Name != ''"
    assert spec.objects["Contact"].write is True


@pytest.mark.parametrize("template", ["{{ env('ACME_URL') }}", "{{ env.ACME_URL }}"])
def test_a_missing_variable_is_named_with_its_place(write: Write, template: str) -> None:
    defs = write(attributes(url=template))
    message = mistake(defs)
    assert message.startswith(f"{defs}/acme/defs.yaml:5: url: ")
    assert "ACME_URL is not set" in message
    assert "export it" in message


@pytest.mark.parametrize(
    ("more", "line", "said"),
    [
        ({"conector": "salesforce"}, 8, "conector: there is no such key; did you mean connector?"),
        ({"zzz": 1}, 8, "zzz: there is no such key; known keys are connection, connector"),
        ({"connector": None}, 2, "connector: this key is required"),
        ({"connection": "Acme CRM"}, 3, "connection: a name is at most 48 lower case letters"),
        ({"connector": 5}, 4, "connector: write text"),
        (
            {"objects": {"Contact": {"wirte": True}}},
            8,
            "objects.Contact.wirte: there is no such key; did you mean write?",
        ),
        ({"objects": {"Contact": {"write": "maybe"}}}, 8, "objects.Contact.write: write true or false, not 'maybe'"),
        ({"objects": ["Contact"]}, 6, "objects: write keys below it"),
        ({"objects": {"Contact": True}}, 7, "objects.Contact: write keys below it"),
        ({"objects": {"Foo__c": {}, "FooC": {}}}, 6, "objects: Foo__c and FooC would share the table foo_c"),
        ({"call_timeout_seconds": "soon"}, 8, "call_timeout_seconds: write a number"),
        ({"longest_call_seconds": 0}, 8, "longest_call_seconds: write a number of seconds above 0"),
        ({"conflict": "crm"}, 8, "conflict: there is no conflict policy 'crm'; write hold, crm_wins, product_wins"),
        ({"objects": {"Contact": {"conflict": "crm"}}}, 8, "objects.Contact.conflict: there is no conflict policy"),
        (
            {"objects": {"Contact": {"guard": {"delete_share": 2}}}},
            9,
            "objects.Contact.guard.delete_share: write a share from 0 to 1",
        ),
        ({"url": "{{ env('A' }}"}, 5, "url: the template"),
        ({"url": "{{ enw.A }}"}, 5, "url: the template"),
    ],
)
def test_a_mistake_is_one_line_with_file_line_key_and_remedy(
    write: Write, more: dict[str, Any], line: int, said: str
) -> None:
    defs = write(attributes(**more))
    assert mistake(defs).startswith(f"{defs}/acme/defs.yaml:{line}: {said}")


@pytest.mark.parametrize("fields", [5, {"Name": True}, "Name", [1]])
def test_fields_are_a_star_or_a_list_of_names(write: Write, fields: Any) -> None:
    defs = write(attributes(objects={"Contact": {"fields": fields}}))
    message = mistake(defs)
    assert message.startswith(f"{defs}/acme/defs.yaml:8: objects.Contact.fields")
    assert "write" in message


def test_broken_yaml_is_named_with_its_line(write: Write) -> None:
    defs = write("type: crm_assets.components.CrmConnection\nattributes:\n  connection: acme\n bad: [\n")
    assert re.match(rf"{re.escape(str(defs))}/acme/defs.yaml:\d: this is no YAML: ", mistake(defs))


def test_a_file_that_is_no_text_is_named(write: Write) -> None:
    defs = write(MINIMAL)
    (defs / "acme" / "defs.yaml").write_bytes(b"type: \xff\xfe\n")
    assert mistake(defs).startswith(f"{defs}/acme/defs.yaml:1: this is no YAML")


@pytest.mark.parametrize("text", ["- a\n- b\n", "type: crm_assets.components.CrmConnection\nattributes: [1]\n"])
def test_a_document_of_another_shape_is_named(write: Write, text: str) -> None:
    assert "`type:` and `attributes:`" in mistake(write(text))


def test_two_connections_of_one_name_are_refused(write: Write) -> None:
    write(MINIMAL, "first")
    defs = write(MINIMAL, "second")
    message = mistake(defs)
    assert message.startswith(
        f"{defs}/second/defs.yaml:4: connection: acme is defined in {defs}/first/defs.yaml already"
    )


def test_all_mistakes_of_a_connection_are_told_at_once(write: Write) -> None:
    defs = write(attributes(conector="salesforce", longest_call_seconds=-1))
    message = mistake(defs)
    assert "conector" in message
    assert "longest_call_seconds" in message


def test_an_unknown_object_is_told_with_the_nearest_name() -> None:
    spec = ConnectionSpec(connection="acme", connector="salesforce", url="http://127.0.0.1:1", objects={})
    assert unknown_object(spec, "Contcat", ["Account", "Contact"]).endswith("did you mean Contact?")
    message = unknown_object(spec, "Xyz__c", ["Account", "Contact"])
    assert "acme" in message
    assert "objects.Xyz__c" in message
    assert "correct its API name" in message
