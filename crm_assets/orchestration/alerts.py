"""Alerts in Dagster: an observation for each change of state, and a message to the address that the settings name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from crm_assets.connections import ConnectionSpec
from crm_assets.orchestration.naming import mirror_key
from crm_assets.orchestration.opening import shared_database

if TYPE_CHECKING:
    from crm_assets.store.alerts import Alert

_INTERVAL_SECONDS = 30
_TIMEOUT_SECONDS = 10
_CHECKS = ("fresh", "schema")


def alerting(spec: ConnectionSpec) -> dg.SensorDefinition:
    """``<connection>_alerts``: says once what needs a person, and once that it is over."""

    @dg.sensor(
        name=f"{spec.connection}_alerts",
        target=None,
        minimum_interval_seconds=_INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Tells what needs a person, once when it begins and once when it ends.",
    )
    def tick(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        from crm_assets.quota.state import forecast, used_up
        from crm_assets.settings import Settings
        from crm_assets.store import alerts

        db = shared_database()
        with db.transaction() as conn:
            now = alerts.conditions(conn, spec.connection)
            if out := used_up(conn, spec.connection):
                now["quota"] = f"{out.name} is used up; the CRM is asked again at {out.until:%Y-%m-%d %H:%M} UTC"
            else:
                for name, at in forecast(conn, spec.connection).items():
                    now[f"quota:{name}"] = f"{name}: at this rate used up at {at:%Y-%m-%d %H:%M} UTC"
            now |= _failing(context.instance, spec)
            alerts.record(conn, spec.connection, now)
            news = alerts.untold(conn, spec.connection)
        if not news:
            return dg.SensorResult(skip_reason="nothing has changed")
        url = Settings().alert_url
        if url is not None:
            _post(url, news)
        # Not before it has arrived: a tick that fails here is made again.
        with db.transaction() as conn:
            alerts.told(conn, news)
        for alert in news:
            context.log.log(30 if alert.raised else 20, _words(alert))
        tables = spec.tables()
        return dg.SensorResult(
            asset_events=[
                dg.AssetObservation(
                    mirror_key(spec.connection, table),
                    description=_words(alert),
                    metadata={"alert": alert.key, "raised": alert.raised},
                )
                for alert in news
                if (table := alert.key.partition(":")[0]) in tables
            ]
        )

    return tick


def _failing(instance: dg.DagsterInstance, spec: ConnectionSpec) -> dict[str, str]:
    """Checks that failed when they were made last, as far as the database does not tell of the same."""
    keys = {
        dg.AssetCheckKey(mirror_key(spec.connection, table), check): table
        for table in spec.tables()
        for check in _CHECKS
    }
    found: dict[str, str] = {}
    for key, record in instance.event_log_storage.get_latest_asset_check_execution_by_key(list(keys)).items():
        evaluation = record.evaluation
        if evaluation is not None and not evaluation.passed:
            said = evaluation.description or "see the check"
            found[f"{keys[key]}:check:{key.name}"] = f"{keys[key]}: the check {key.name} fails: {said}"
    return found


def _words(alert: Alert) -> str:
    return f"{alert.connection}: {alert.message}" if alert.raised else f"{alert.connection}: over: {alert.message}"


def _post(url: str, news: list[Alert]) -> None:
    """One message in the form that chat systems' incoming webhooks take: ``{"text": …}``."""
    import httpx

    reply = httpx.post(url, json={"text": "\n".join(map(_words, news))}, timeout=_TIMEOUT_SECONDS)
    reply.raise_for_status()
