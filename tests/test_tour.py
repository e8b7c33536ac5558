"""The tour of the documentation runs from start to end, and answers its question."""

import json
import re
import shutil
from pathlib import Path

import pytest

import pyloric_db

TOUR = Path(__file__).parent.parent / "docs" / "tour.ipynb"


def test_no_name_of_a_machine_stands_in_the_tour():
    cells = json.loads(TOUR.read_text())["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    said = [cell["source"] for cell in cells] + [o.get("text", []) for o in outputs]
    said += [
        text
        for output in outputs
        for kind, text in output.get("data", {}).items()
        if kind.startswith("text/")
    ]
    text = "\n".join(line for lines in said for line in lines)
    # a path that starts at a root: of several parts, or of a Windows drive
    assert re.findall(r"(?<![\w.:/<])/\w[\w.-]*/[\w./-]*|\b[A-Za-z]:\\\w+", text) == []
    assert "site-packages" not in text


@pytest.mark.slow
def test_the_tour(cli, tmp_path):
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    (tmp_path / "docs").mkdir()
    shutil.copy(TOUR, tmp_path / "docs")
    # the first quarter of the demo has pyloric circuits enough
    done = cli("build", "demo", "--out", tmp_path / "demo-db", "--limit", 1000)
    assert done.returncode == 0, done.stderr
    notebook = nbformat.read(tmp_path / "docs" / "tour.ipynb", as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(tmp_path / "docs")}}
    )
    client.execute()
    outputs = [o for c in notebook.cells for o in c.get("outputs", [])]
    assert not [o for o in outputs if o.output_type == "error"]
    images = [o for o in outputs if "image/png" in o.get("data", {})]
    assert len(images) == 6
    said = "".join(o.get("text", "") for o in outputs)
    pair = re.search(r"circuits (\d+) and (\d+): (\d\.\d+) SD apart in rhythm", said)
    labels = pyloric_db.open(tmp_path / "demo-db").query(
        f"pyloric and circuit_id in [{pair[1]}, {pair[2]}]", columns=[]
    )
    assert labels.sizes["circuit"] == 2 and float(pair[3]) < 1
    assert re.search(r"\d+ of 31 conductances differ", said)
