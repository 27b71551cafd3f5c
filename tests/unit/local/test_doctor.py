import os

from shoal.local.doctor import diagnose, find_python
from shoal.local.lifecycle import make_home, status


def test_a_folder_without_a_template_is_an_error_with_a_fix(tmp_path, monkeypatch):
    monkeypatch.delenv("SHOAL_HOME", raising=False)
    checks = {check.name: check for check in diagnose(tmp_path)}
    assert checks["template"].level == "error"
    assert checks["template"].fix
    assert checks["Python"].level == "ok"
    assert checks["packages"].level == "ok"
    assert str(tmp_path) in checks["state folder"].found


def test_pyenvs_shims_dont_count_as_a_python(tmp_path, monkeypatch):
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    for folder in (tmp_path / "shims", tmp_path / "pyenv" / "versions" / "3.13.2" / "bin"):
        folder.mkdir(parents=True)
        (folder / "python3.13").touch(mode=0o755)
    monkeypatch.setenv("PATH", os.pathsep.join([str(tmp_path / "shims"), str(tmp_path / "none")]))
    assert find_python("3.13") == tmp_path / "pyenv" / "versions" / "3.13.2" / "bin" / "python3.13"
    assert find_python("3.99") is None


def test_a_cloud_file_without_a_living_process_is_no_cloud(tmp_path, monkeypatch):
    monkeypatch.delenv("SHOAL_HOME", raising=False)
    assert status(tmp_path) is None
    (tmp_path / ".shoal").mkdir()
    (tmp_path / ".shoal" / "cloud.json").write_text('{"functions": []}')
    assert status(tmp_path) is None


def test_the_state_folder_is_its_owners_only(tmp_path, monkeypatch):
    monkeypatch.delenv("SHOAL_HOME", raising=False)
    assert make_home(tmp_path) == make_home(tmp_path) == tmp_path / ".shoal"
    assert (tmp_path / ".shoal").stat().st_mode & 0o777 == 0o700
