"""The README's blocks run, one after the other, on fewer images and with a toy encoder."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"


@pytest.mark.skipif(not README.exists(), reason="the README is not part of an installed package")
def test_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = "\n".join(re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL))
    smaller = {
        "make_survey(1000": "make_survey(250",
        "25, 100, 400": "25, 50, 100",
        "FixedImageEmbedder(average": 'FixedImageEmbedder("test_resnet", average',
        "SimCLREmbedder(average": 'SimCLREmbedder("test_resnet", average',
        "max_epochs=16": "max_epochs=1",
    }
    for text, short in smaller.items():
        assert text in code
        code = code.replace(text, short)
    names = {}
    exec(compile(code, README.name, "exec"), names)
    assert len(names["table"]) == 2 * 3 * 5
    assert (names["again"].predict(names["images"]) == names["probe"].predict(names["images"])).all()
    assert (tmp_path / "galaxies.skastro").exists()
