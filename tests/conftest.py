import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from jaxtyping import install_import_hook

# every annotated array has the axes that its annotation names
install_import_hook(["padim_ace"], "typechecking.check")

import pytest  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(1)  # sums depend on the number of threads, and workers of pytest share the cores


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
