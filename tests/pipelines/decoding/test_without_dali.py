"""Without DALI, raw pixels load, and JPEGs give an error that names the package."""

from __future__ import annotations

from pathlib import Path

from tests.pipelines import folders
from tests.warm import Warm

PROGRAM = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "nvidia":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
assert "nvidia" not in sys.modules
import slipform as sf
spec = sf.Augmentation(image_size=8, resize=8)
for executor in ("host", "resident"):
    with sf.Loader(sys.argv[1], augment=spec, batch_size=2, executor=executor) as loader:
        assert len(list(loader)) == 2
    try:
        with sf.Loader(sys.argv[2], augment=spec, batch_size=2, executor=executor) as loader:
            list(loader)
        raise AssertionError(executor)
    except sf.SlipformError as error:
        assert "DALI is not installed" in str(error), error
"""


def test_raw_pixels_need_no_dali(tmp_path: Path, warm_process: Warm) -> None:
    images = [folders.smooth(9, 9, k) for k in range(4)]
    raw = folders.write_folder(tmp_path / "raw", images)
    jpegs = folders.write_folder(tmp_path / "jpegs", [folders.jpeg(one) for one in images])
    done = warm_process.run(PROGRAM, raw, jpegs)
    assert done.returncode == 0, done.stderr
