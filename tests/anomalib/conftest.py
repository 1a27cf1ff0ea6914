import pytest
from small import data, engine, model, write_images


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("folder")
    write_images(root)
    return root


@pytest.fixture(scope="session")
def fitted(folder, tmp_path_factory):
    """A small model that is fitted, its data module and its Engine; not to be changed."""
    ace, module, runner = model(), data(folder), engine(tmp_path_factory.mktemp("fitted"))
    runner.fit(ace, datamodule=module)
    return ace.eval(), module, runner
