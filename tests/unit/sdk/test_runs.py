import pytest

import shoal


@pytest.fixture
def run(cloud, api):
    api.runs.append(api.new_run("digits", "v1"))
    return shoal.runs()[0]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("shoal._runs.POLL_SECONDS", 0.01)


def test_wait_shows_every_change_and_ends_with_metrics(run, api):
    step = {"stage": "Train Shard", "progress": {"round": 1, "rounds": 3, "loss": 0.5}}
    api.script = [step, step, *api.script]
    seen = []
    assert run.wait(on_progress=lambda run: seen.append((run.status, run.stage))) is run
    assert seen == [("running", "Train Shard"), ("succeeded", "Register Model")]
    assert run.metrics["accuracy"] == 0.9812
    assert run.model == {"name": "digits", "version": 1}
    assert run.finished and run.failure is None


def test_wait_raises_what_failed(run, api):
    failure = {"stage": "Write Shard", "error": "BadDataset", "reason": "One class only.", "fix": "Add a second."}
    api.script = [{"status": "failed", "failure": failure}]
    with pytest.raises(shoal.RunFailed, match=r"at Write Shard: One class only. Fix: Add a second.") as caught:
        run.wait()
    assert caught.value.run.failure == failure


def test_a_paused_trial_isnt_waited_for(run, api):
    run.document["run_id"] = api.runs[0]["run_id"] = "digits-20261121-001"
    api.script = [{"status": "paused", "progress": {"round": 3, "rounds": 9}}]
    with pytest.raises(shoal.RunPaused, match="of search digits-20261121, paused after round 3") as caught:
        run.wait()
    assert caught.value.fix == "Watch the search: shoal tunings digits-20261121 --watch"


def test_wait_stops_at_its_timeout(run, api):
    api.script = [{"stage": "Train Shard"}]
    with pytest.raises(shoal.WaitTimedOut, match="still running"):
        run.wait(timeout=0.05)


def test_wait_gives_up_on_an_api_that_stays_away(run, api, monkeypatch):
    monkeypatch.setattr("shoal._runs.PATIENCE_SECONDS", 0.01)
    api.close()
    with pytest.raises(shoal.ConnectionFailed):
        run.wait()


def test_runs_are_listed_by_dataset(cloud, api):
    api.runs = [api.new_run("b", "1"), api.new_run("a", "1")]
    assert [run.id for run in shoal.runs()] == ["b-1", "a-1"]
    assert [run.id for run in shoal.runs("a")] == ["a-1"]


def test_an_unknown_run_is_not_found(cloud):
    with pytest.raises(shoal.NotFound, match="runs/none"):
        shoal.run("none")


def test_datasets_and_their_reports(cloud, api):
    api.latest["digits"], api.report = "v1", {"kept": 3}
    (listed,) = shoal.datasets()
    assert (listed.name, listed.latest_version) == ("digits", "v1")
    assert listed.has_report
    assert shoal.dataset("digits").report() == {"kept": 3}
    with pytest.raises(shoal.NotFound):
        listed.report("v0")
