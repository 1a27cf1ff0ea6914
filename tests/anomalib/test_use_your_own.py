"""The chapter on one's own images."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import jupytext
import numpy as np

CHAPTER = Path(__file__).parents[2] / "notebooks/use_your_own.py"


def test_the_command_lines_of_the_chapter_run_as_they_are_pasted(folder, tmp_path):
    """On 16-bit TIFF files, which the preparation brings into shape."""
    for name in ("normal", "anomalous", "masks"):
        (tmp_path / "my_images" / name).mkdir(parents=True)
        for file in (folder / name).iterdir():
            image = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
            deep = image if name == "masks" else 100 * image.astype(np.uint16)
            cv2.imwrite(str(tmp_path / "my_images" / name / f"{file.stem}.tif"), deep)
    shutil.copy(folder / "others" / "a10.png", tmp_path / "new_image.png")
    prose = [cell.source for cell in jupytext.read(CHAPTER).cells if cell.cell_type == "markdown"]
    script = "".join(re.findall(r"```bash\n(.*?)```", "\n".join(prose), re.DOTALL))
    verbs = re.findall(r"^(?:anomalib|python -m) (\w+)", script, re.MULTILINE)
    assert verbs == ["data_prep", "train", "test", "predict", "export"]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PATH": path}
    command = ["bash", "-e", "-c", script]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    prepared = cv2.imread(str(tmp_path / "prepared/my_images/anomalous/a00.png"), cv2.IMREAD_UNCHANGED)
    assert prepared.shape == (80, 120) and prepared.dtype == np.uint8
    trained, tested = re.findall(r"pixel_AUROC\D+([\d.]+)", done.stdout)
    assert trained == tested and float(trained) > 0.9
    images, onnx = re.findall(r"`(results/\S+)`", "\n".join(prose))
    assert list((tmp_path / images).rglob("new_image.png"))
    files = sorted(path.name for path in (tmp_path / onnx).iterdir())
    assert files == ["model.onnx", "model.onnx.data"]
