from shoal.local.compute.spec import FunctionSpec
from shoal.local.reload import CodeWatcher


def test_only_functions_whose_code_or_layer_changed_are_redeployed(tmp_path):
    folders = {name: tmp_path / name for name in ("one", "two", "layer")}
    for folder in folders.values():
        folder.mkdir()
        (folder / "app.py").write_text("")
    arn = "arn:aws:lambda:us-east-1:123456789012:function:"
    specs = [
        FunctionSpec("one", f"{arn}one", "app.handler", folders["one"], python_path=(folders["layer"],)),
        FunctionSpec("two", f"{arn}two", "app.handler", folders["two"]),
    ]
    redeployed = []
    watcher = CodeWatcher(specs, redeployed.append)
    assert watcher.check() == []
    (folders["one"] / "__pycache__").mkdir()
    (folders["one"] / "__pycache__" / "app.cpython-311.pyc").touch()
    assert watcher.check() == []
    (folders["layer"] / "more.py").touch()
    assert watcher.check() == ["one"]
    (folders["two"] / "app.py").unlink()
    assert watcher.check() == ["two"]
    assert [spec.name for spec in redeployed] == ["one", "two"]
