"""The vendor's own client, unmodified, talking to the sandbox, and judging the signatures of its webhooks."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from hubspot import HubSpot
from hubspot.crm.associations.v4 import (
    AssociationSpec,
    BatchInputPublicAssociationMultiArchive,
    BatchInputPublicAssociationMultiPost,
    BatchInputPublicFetchAssociationsBatchRequest,
)
from hubspot.crm.contacts import (
    ApiException,
    BatchInputSimplePublicObjectBatchInput,
    BatchInputSimplePublicObjectBatchInputForCreate,
    BatchInputSimplePublicObjectBatchInputUpsert,
    BatchInputSimplePublicObjectId,
    BatchReadInputSimplePublicObjectId,
    PublicMergeInput,
    PublicObjectSearchRequest,
    SimplePublicObjectInput,
    SimplePublicObjectInputForCreate,
)
from hubspot.crm.deals import SimplePublicObjectInputForCreate as NewDeal
from hubspot.crm.objects import ApiException as ObjectsException
from hubspot.crm.objects import SimplePublicObjectInputForCreate as NewObject
from hubspot.crm.properties import PropertyCreate, PropertyUpdate
from hubspot.crm.schemas import ObjectSchemaEgg, ObjectTypeDefinitionLabels, ObjectTypePropertyCreate
from hubspot.utils.signature import Signature

from crm_assets_tests.plugins.sandbox import Sandbox, wait_until
from crm_assets_tests.sandbox.receiver import Receiver, receiving

NEW = 1000
BATCH = 100
ROW_ID = "crm_assets_row_id"


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    sandbox = Sandbox(tmp_path_factory.mktemp("hubspot") / "data", connection="hubspot", rows=500)
    sandbox.limits(calls_10s=100_000, search_1s=100_000)
    yield sandbox
    sandbox.kill()


@pytest.fixture(scope="module")
def client(account: Sandbox) -> HubSpot:
    return HubSpot(access_token="sandbox", host=account.url, proxy=None)


def chunks(values: list[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(values), BATCH):
        yield values[start : start + BATCH]


def test_the_life_of_a_thousand_contacts(client: HubSpot, account: Sandbox) -> None:
    batch = client.crm.contacts.batch_api
    inputs = [
        {
            "objectWriteTraceId": str(i),
            "properties": {"email": f"life{i}@acme.test", "firstname": "New", ROW_ID: str(uuid.uuid4())},
        }
        for i in range(NEW)
    ]
    ids: dict[str, str] = {}
    for some in chunks(inputs):
        made = batch.create(BatchInputSimplePublicObjectBatchInputForCreate(inputs=some))
        assert made.status == "COMPLETE"
        ids |= {one.object_write_trace_id: one.id for one in made.results}
    assert len(set(ids.values())) == NEW

    for some in chunks([{"id": one, "properties": {"firstname": "Old"}} for one in ids.values()]):
        assert len(batch.update(BatchInputSimplePublicObjectBatchInput(inputs=some)).results) == BATCH
    row_ids = [one["properties"][ROW_ID] for one in inputs]
    for some in chunks(
        [{"id": one, "idProperty": ROW_ID, "properties": {"lastname": "Kept"}} for one in row_ids[: NEW // 2]]
    ):
        kept = batch.upsert(BatchInputSimplePublicObjectBatchInputUpsert(inputs=some))
        assert not any(one.new for one in kept.results)

    read: dict[str, dict[str, str]] = {}
    for some in chunks([{"id": one} for one in ids.values()]):
        wanted = BatchReadInputSimplePublicObjectId(
            inputs=some, properties=["email", "firstname", "lastname"], properties_with_history=[]
        )
        read |= {one.id: one.properties for one in batch.read(wanted).results}
    assert {one["firstname"] for one in read.values()} == {"Old"}
    assert sum(one["lastname"] == "Kept" for one in read.values()) == NEW // 2
    truth = account.alive("contacts")
    assert all(truth[key]["email"] == one["email"] for key, one in read.items())

    for some in chunks([{"id": one} for one in ids.values()]):
        batch.archive(BatchInputSimplePublicObjectId(inputs=some))
    assert not set(ids.values()) & set(account.alive("contacts"))
    archived = client.crm.contacts.get_all(archived=True)
    assert {one.id for one in archived} >= set(ids.values())
    assert all(one.archived and one.archived_at for one in archived)


def test_a_batch_that_fails_in_part(client: HubSpot) -> None:
    batch = client.crm.contacts.batch_api
    mails = ["part1@acme.test", "no address", "part2@acme.test"]
    traced = [{"objectWriteTraceId": f"t{i}", "properties": {"email": mail}} for i, mail in enumerate(mails)]
    made = batch.create(BatchInputSimplePublicObjectBatchInputForCreate(inputs=traced))
    assert {one.object_write_trace_id for one in made.results} == {"t0", "t2"}
    assert made.num_errors == 1
    [error] = made.errors
    assert error.context["objectWriteTraceId"] == ["t1"]
    assert error.errors[0].code == "INVALID_EMAIL"

    plain = [{"properties": {"email": mail}} for mail in ("part3@acme.test", "no address")]
    with pytest.raises(ApiException) as failed:
        batch.create(BatchInputSimplePublicObjectBatchInputForCreate(inputs=plain))
    assert failed.value.status == 400
    assert search(client, "part3@acme.test") == []

    wanted = BatchReadInputSimplePublicObjectId(
        inputs=[{"id": made.results[0].id}, {"id": "17"}], properties=["email"], properties_with_history=[]
    )
    found = batch.read(wanted)
    assert [one.id for one in found.results] == [made.results[0].id]
    assert found.errors[0].category == "OBJECT_NOT_FOUND"
    assert found.errors[0].context["ids"] == ["17"]


def search(client: HubSpot, mail: str) -> list[Any]:
    filters = [{"propertyName": "email", "operator": "EQ", "value": mail}]
    request = PublicObjectSearchRequest(filter_groups=[{"filters": filters}], properties=["email"], limit=10)
    return list(client.crm.contacts.search_api.do_search(request).results)


def test_one_contact(client: HubSpot) -> None:
    basic = client.crm.contacts.basic_api
    made = basic.create(SimplePublicObjectInputForCreate(properties={"email": "One@acme.test", "firstname": "One"}))
    assert made.properties["email"] == "one@acme.test"
    with pytest.raises(ApiException) as twice:
        basic.create(SimplePublicObjectInputForCreate(properties={"email": "one@acme.test"}))
    assert twice.value.status == 409
    assert json.loads(twice.value.body)["message"] == f"Contact already exists. Existing ID: {made.id}"
    changed = basic.update("one@acme.test", SimplePublicObjectInput(properties={"phone": "1"}), id_property="email")
    assert (changed.id, changed.properties["phone"]) == (made.id, "1")
    with_past = basic.get_by_id(made.id, properties_with_history=["phone", "firstname"])
    assert [one.value for one in with_past.properties_with_history["firstname"]] == ["One"]
    assert with_past.properties_with_history["phone"][0].value == "1"
    assert wait_until(lambda: search(client, "one@acme.test"))[0].id == made.id
    basic.archive(made.id)
    with pytest.raises(ApiException) as gone:
        basic.get_by_id(made.id)
    assert gone.value.status == 404
    assert basic.get_by_id(made.id, archived=True).archived_at is not None


def test_search_pages(client: HubSpot, account: Sandbox) -> None:
    truth = account.alive("contacts")
    request: dict[str, Any] = {
        "filter_groups": [{"filters": [{"propertyName": "lastmodifieddate", "operator": "GTE", "value": "0"}]}],
        "sorts": [{"propertyName": "lastmodifieddate", "direction": "ASCENDING"}],
        "properties": ["email", "lastmodifieddate"],
        "limit": 50,
    }

    def everything() -> list[Any]:
        found, after = [], None
        while True:
            page = client.crm.contacts.search_api.do_search(PublicObjectSearchRequest(**request, after=after))
            found += page.results
            if page.paging is None:
                assert page.total == len(found)
                return found
            after = page.paging.next.after

    found = wait_until(lambda: (all_ := everything()) and len(all_) == len(truth) and all_)
    assert {one.id: one.properties["email"] for one in found} == {key: one["email"] for key, one in truth.items()}
    stamps = [one.updated_at for one in found]
    assert stamps == sorted(stamps)


def test_merged_contacts(client: HubSpot) -> None:
    basic = client.crm.contacts.basic_api
    first, second = (
        basic.create(SimplePublicObjectInputForCreate(properties={"email": f"merge{n}@acme.test", "city": f"C{n}"}))
        for n in (1, 2)
    )
    merged = basic.merge(PublicMergeInput(primary_object_id=first.id, object_id_to_merge=second.id))
    assert merged.id not in (first.id, second.id)
    for old in (first.id, second.id):
        found = basic.get_by_id(old, properties=["city", "hs_merged_object_ids"])
        assert found.id == merged.id
        assert found.properties["city"] == "C1"
        assert found.properties["hs_merged_object_ids"] == f"{first.id};{second.id}"


def test_properties(client: HubSpot) -> None:
    core = client.crm.properties.core_api
    made = core.create(
        "deals",
        PropertyCreate(name="score", label="Score", type="number", field_type="number", group_name="dealinformation"),
    )
    assert (made.name, made.type, made.hubspot_defined) == ("score", "number", False)
    assert core.update("deals", "score", PropertyUpdate(label="Points")).label == "Points"
    names = {one.name: one for one in core.get_all("deals").results}
    assert names["score"].label == "Points"
    assert names["hs_lastmodifieddate"].modification_metadata.read_only_value
    assert names[ROW_ID].has_unique_value
    core.archive("deals", "score")
    assert "score" not in {one.name for one in core.get_all("deals").results}
    assert "score" in {one.name for one in core.get_all("deals", archived=True).results}


def test_objects_of_the_accounts_own(client: HubSpot, account: Sandbox) -> None:
    core = client.crm.schemas.core_api
    serial = ObjectTypePropertyCreate(name="serial", label="Serial", type="string", field_type="text")
    made = core.create(
        ObjectSchemaEgg(
            name="robot",
            labels=ObjectTypeDefinitionLabels(singular="Robot", plural="Robots"),
            properties=[serial],
            required_properties=["serial"],
            searchable_properties=["serial"],
            primary_display_property="serial",
            secondary_display_properties=[],
            associated_objects=["CONTACT"],
        )
    )
    assert made.object_type_id.startswith("2-") and made.fully_qualified_name.endswith("_robot")
    assert [one.name for one in core.get_all().results] == ["robot"]
    assert core.get_by_id(made.object_type_id).required_properties == ["serial"]
    basic = client.crm.objects.basic_api
    first = basic.create(made.fully_qualified_name, NewObject(properties={"serial": "R-1"}))
    assert basic.get_by_id(made.object_type_id, first.id, properties=["serial"]).properties["serial"] == "R-1"
    with pytest.raises(ObjectsException, match="required properties"):
        basic.create(made.fully_qualified_name, NewObject(properties={}))
    assert list(account.alive(made.fully_qualified_name)) == [first.id]


def test_pipelines_and_owners(client: HubSpot, account: Sandbox) -> None:
    [pipeline] = client.crm.pipelines.pipelines_api.get_all("deals").results
    assert [stage.id for stage in pipeline.stages][-2:] == ["closedwon", "closedlost"]
    assert pipeline.stages[-2].metadata == {"isClosed": "true", "probability": "1.0"}
    owners = client.crm.owners.get_all()
    assert {one.id for one in owners} == set(account.alive("owners"))
    assert client.crm.owners.owners_api.get_by_id(int(owners[0].id)).email == owners[0].email


def test_associations(client: HubSpot, account: Sandbox) -> None:
    basic, batch = client.crm.associations.v4.basic_api, client.crm.associations.v4.batch_api
    deal = client.crm.deals.basic_api.create(
        NewDeal(properties={"dealname": "Associated", "dealstage": "qualifiedtobuy", "amount": "12.50"})
    )
    people = list(account.alive("contacts"))[:150]
    company = next(iter(account.alive("companies")))
    pairs = [
        {
            "from": {"id": deal.id},
            "to": {"id": one},
            "types": [{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 3}],
        }
        for one in people
    ]
    made = batch.create("deals", "contacts", BatchInputPublicAssociationMultiPost(inputs=pairs))
    assert len(made.results) == len(people)
    labelled = basic.create(
        "deals",
        deal.id,
        "companies",
        company,
        [AssociationSpec(association_category="HUBSPOT_DEFINED", association_type_id=5)],
    )
    assert labelled.labels == ["Primary"]

    page = basic.get_page("deals", deal.id, "contacts", limit=100)
    rest = basic.get_page("deals", deal.id, "contacts", limit=100, after=page.paging.next.after)
    assert {str(one.to_object_id) for one in [*page.results, *rest.results]} == set(people)
    [held] = basic.get_page("companies", company, "deals", limit=500).results[-1:]
    assert {(one.type_id, one.label) for one in held.association_types} == {(6, "Primary"), (342, None)}

    wanted = BatchInputPublicFetchAssociationsBatchRequest(inputs=[{"id": deal.id}, {"id": "17"}])
    read = batch.get_page("deals", "contacts", wanted)
    assert {str(one.to_object_id) for one in read.results[0].to} == set(people)
    assert read.num_errors == 1
    batch.archive(
        "deals",
        "contacts",
        BatchInputPublicAssociationMultiArchive(
            inputs=[{"from": {"id": deal.id}, "to": [{"id": one} for one in people[1:]]}]
        ),
    )
    assert [str(one.to_object_id) for one in basic.get_page("deals", deal.id, "contacts").results] == people[:1]


def test_refused_and_renewed(client: HubSpot, account: Sandbox) -> None:
    with pytest.raises(ApiException) as refused:
        HubSpot(access_token="other", host=account.url).crm.contacts.basic_api.get_page()
    assert refused.value.status == 401
    assert json.loads(refused.value.body)["category"] == "INVALID_AUTHENTICATION"
    tokens = client.oauth.tokens_api.create(
        grant_type="refresh_token", refresh_token="sandbox", client_id="sandbox", client_secret="sandbox"
    )
    assert 0 < tokens.expires_in <= 1800
    renewed = HubSpot(access_token=tokens.access_token, host=account.url)
    assert len(renewed.crm.contacts.basic_api.get_page(limit=5).results) == 5


@pytest.fixture
def receiver(account: Sandbox) -> Iterator[Receiver]:
    with receiving("/webhooks/hubspot?of=a%3Ab%20c") as receiver:
        account.subscribe(receiver.url)
        yield receiver
        account.unsubscribe(receiver.url)


def test_the_client_finds_the_signatures_right(account: Sandbox, receiver: Receiver) -> None:
    account.create("contacts", email="told@acme.test", firstname="Tölde")
    wait_until(lambda: receiver.deliveries)
    headers, body = receiver.deliveries[0]
    timestamp, text = headers["X-HubSpot-Request-Timestamp"], body.decode()
    # The client does not decode the URL, as the vendor does before it signs.
    url = receiver.url.replace("%3A", ":")
    judged: dict[str, Any] = {"client_secret": "sandbox", "http_uri": url, "timestamp": timestamp}
    right = headers["X-HubSpot-Signature-v3"]
    assert Signature.is_valid(right, request_body=text, signature_version="v3", **judged)
    assert not Signature.is_valid(right, request_body=text + " ", signature_version="v3", **judged)
    first = headers["X-HubSpot-Signature"]
    assert Signature.is_valid(first, request_body=text, signature_version="v1", **judged)
