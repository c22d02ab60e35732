"""Who imports whom, what the wheel holds, and what our code never calls."""

from __future__ import annotations

import ast
import functools
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.checkout import ROOT

MAY_IMPORT = {
    "mytalk": {"mytalk"},
    "data_pipeline": {"data_pipeline", "mytalk"},
    "train": {"train", "data_pipeline", "mytalk"},
    "eval": {"eval", "data_pipeline", "mytalk"},
    "launch": {"launch", "mytalk"},
}
OURS = {*MAY_IMPORT, "tests", "benchmarks"}
LIGHT = {f"mytalk.{name}" for name in ("atomic", "command", "config", "machine", "progress")}  # all that launch may use


@functools.cache
def sources(*folders: str) -> list[tuple[str, ast.Module]]:
    """(path, syntax tree) of every Python file of these folders."""
    if len(folders) > 1:
        return [source for folder in folders for source in sources(folder)]
    paths = sorted((ROOT / folders[0]).rglob("*.py"))
    return [(path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(), str(path))) for path in paths]


def imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of every import, those inside functions as well."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def dotted(node: ast.AST) -> str:
    """`a.b.c` of a name or attribute, "" of anything else."""
    if isinstance(node, ast.Attribute):
        inner = dotted(node.value)
        return f"{inner}.{node.attr}" if inner else ""
    return node.id if isinstance(node, ast.Name) else ""


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_invariant_10_a_folder_imports_only_what_it_may(folder):
    """mytalk none of the others; data_pipeline mytalk; train and eval both; launch what mytalk's commands share."""
    seen = 0
    for path, tree in sources(folder):
        for line, name in imports(tree):
            top = name.split(".")[0]
            assert top not in OURS or top in MAY_IMPORT[folder], f"{path}:{line} imports {name}"
            if folder == "launch" and top == "mytalk":
                assert name in LIGHT or name.rpartition(".")[0] in LIGHT, f"{path}:{line} imports {name}"
            seen += 1
    assert (ROOT / folder / "__init__.py").is_file()
    assert seen or folder == "launch"


def test_no_test_imports_another():
    """What two tests share lies in tests/helpers; nothing but tests imports it."""
    for path, tree in sources(*OURS):
        for line, name in imports(tree):
            assert not any(part.startswith("test_") for part in name.split(".")[:-1]), f"{path}:{line} imports {name}"


def private_names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, name) of each `x._name`, `from x import _name` and `setattr(x, "_name", ...)`, x being of our packages."""
    foreign = {"self", "cls"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            foreign |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    for line, name in imports(tree):
        if name.split(".")[0] in OURS and name.rpartition(".")[2].startswith("_"):
            yield line, name
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            if dotted(node).split(".")[0] not in foreign:
                yield node.lineno, ast.unparse(node)
        elif isinstance(node, ast.Call) and dotted(node.func).endswith("setattr"):
            for value in node.args:
                text = value.value if isinstance(value, ast.Constant) else None
                if isinstance(text, str) and text.rpartition(".")[2].startswith("_"):
                    yield node.lineno, text


def test_no_test_uses_a_private_name_of_ours():
    for path, tree in sources("tests"):
        for line, name in private_names(tree):
            raise AssertionError(f"{path}:{line} uses {name}; test what the public names do")


# What a package inside a folder may import of that folder. Commands stand above them, nothing imports them.
PLUMBING = {*LIGHT, "mytalk.ahead", "mytalk.digest", "mytalk.intervals", "mytalk.settings"}
ENGINE = {"train.config", "train.recipe", "train.run_folder"}
PACKAGES = {
    "data_pipeline.storage": set[str](),
    "data_pipeline.shards": {"data_pipeline.storage", "data_pipeline.tasks.leases"},
    "data_pipeline.sample": {"data_pipeline.shards", "data_pipeline.storage"},
    "data_pipeline.examples": {"data_pipeline.sample", "data_pipeline.shards"},
    "data_pipeline.columns": {
        *("data_pipeline.pool", "data_pipeline.shards", "data_pipeline.storage", "data_pipeline.tasks"),
    },
    "data_pipeline.extract": {
        *("data_pipeline.pool", "data_pipeline.shards", "data_pipeline.storage", "data_pipeline.tasks"),
        "data_pipeline.weights",
    },
    "data_pipeline.index": {"data_pipeline.shards", "data_pipeline.storage", "data_pipeline.columns"},
    "data_pipeline.annotate": {
        *("data_pipeline.extract.hearing", "data_pipeline.pool", "data_pipeline.shards", "data_pipeline.storage"),
        *("data_pipeline.tasks", "data_pipeline.weights"),
    },
    "data_pipeline.split": {"data_pipeline.shards"},
    "data_pipeline.verify": {
        *("data_pipeline.pool", "data_pipeline.shards", "data_pipeline.storage", "data_pipeline.tasks"),
    },
    "data_pipeline.show": {"data_pipeline.extract", "data_pipeline.shards", "data_pipeline.storage"},
    "data_pipeline.page": set[str](),
    "data_pipeline.stats": {
        "data_pipeline.extract",
        "data_pipeline.page",
        "data_pipeline.shards",
        "data_pipeline.storage",
    },
    "data_pipeline.tasks": {"data_pipeline.pool"},
    "data_pipeline.synthetic": {"data_pipeline.pool"},
    "mytalk.face": PLUMBING,
    "mytalk.media": {*PLUMBING, "mytalk.face"},
    "mytalk.networks": {*PLUMBING, "mytalk.face"},
    "mytalk.speech": {*PLUMBING, "mytalk.face"},
    "mytalk.control": {*PLUMBING, "mytalk.face", "mytalk.speech"},
    "mytalk.dub": {*PLUMBING, *(f"mytalk.{name}" for name in ("control", "face", "media", "networks", "speech"))},
    "eval.metrics": set[str](),  # judges are handed to it
    "eval.judges": set[str](),
    "eval.rows": {"eval.metrics", "eval.score_file", "eval.tasks"},
    "eval.compare": {"eval.metrics", "eval.report", "eval.score_file"},
    "eval.report": {"eval.metrics", "eval.rows.features", "eval.rows.saved", "eval.score_file", "eval.tasks"},
    "launch.follow": set[str](),
    "eval.gaps": {"eval.metrics", "eval.report", "eval.score_file"},
    "eval.cheats": {
        *("eval.judges", "eval.metrics", "eval.options", "eval.parallel", "eval.rows", "eval.score_file", "eval.tasks"),
    },
    "launch.clusters": {"launch.follow", "launch.words"},
    "launch.drill": {"launch.clusters.facts", "launch.hosts", "launch.slurm", "launch.words"},
    "launch.preflight": {
        *("launch.clusters.facts", "launch.follow", "launch.hosts", "launch.local", "launch.slurm", "launch.words"),
    },
    "launch.processes": {"launch.follow.restart"},
    "launch.slurm": {"launch.clusters.facts", "launch.follow.attend", "launch.follow.restart", "launch.words"},
    "launch.hosts": {"launch.clusters.facts", "launch.follow", "launch.words"},
    "train.engine": ENGINE,
    "train.run_folder": {"train.config", "train.recipe", "train.engine"},
    "train.recipes": {*ENGINE, "train.cli", "train.engine", "train.validation"},
}
# Formats and what is read from them need no detector: faces are found once, by extraction.
FACE_FINDING = {
    f"mytalk.face.{name}" for name in ("detector", "detectors", "mediapipe_hands", "mediapipe_mesh", "shots", "track")
}
WITHOUT_FACES = ("storage", "shards", "sample", "examples", "columns", "index")
MOST_FILES = 12


def is_in(name: str, places: set[str]) -> bool:
    """Whether a dotted name is one of these modules or packages, or in one of them."""
    return any(name == place or name.startswith(f"{place}.") for place in places)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_only_what_it_may(package):
    """Of its own folder; no test is needed for what the folders may import of each other (above)."""
    folder = package.split(".")[0]
    for path, tree in sources(package.replace(".", "/")):
        for line, name in imports(tree):
            if name.split(".")[0] == folder:
                assert is_in(name, {package, *PACKAGES[package]}), f"{path}:{line} imports {name}"


@pytest.mark.parametrize("package", WITHOUT_FACES)
def test_a_package_of_formats_and_readers_finds_no_faces(package):
    for path, tree in sources(f"data_pipeline/{package}"):
        for line, name in imports(tree):
            assert not is_in(name, FACE_FINDING), f"{path}:{line} imports {name}"


def test_the_drawn_corpus_is_a_package_of_its_own():
    """Nothing but tests and benchmarks imports it: its command is started by name, and the demo types that command."""
    for path, tree in sources(*MAY_IMPORT):
        for line, name in imports(tree):
            if not path.startswith("data_pipeline/synthetic/"):
                assert not is_in(name, {"data_pipeline.synthetic"}), f"{path}:{line} imports {name}"


def test_the_loop_and_its_packages_know_no_recipe():
    for path, tree in sources("train"):
        for line, name in imports(tree):
            if not path.startswith("train/recipes/") and path != "train/__main__.py":
                assert not is_in(name, {"train.recipes"}), f"{path}:{line} imports {name}"


def test_a_folder_holds_a_dozen_files_at_most():
    files = [Path(path) for path, _ in sources(*MAY_IMPORT, "benchmarks") if not path.endswith("__init__.py")]
    for folder in {path.parent for path in files}:
        held = sorted(path.name for path in files if path.parent == folder)
        assert len(held) <= MOST_FILES, f"{folder}: {', '.join(held)}"


def test_nothing_hides_the_builtin_eval():
    """`from eval.x import y` is fine; `import eval` and `import eval.x` put a module in the builtin's place."""
    for path, tree in sources(*OURS):
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    assert alias.name.split(".")[0] != "eval" or alias.asname, f"{path}:{node.lineno}"


FORBIDDEN = {
    *("pickle.load", "pickle.loads", "joblib.load", "dill.load", "marshal.loads"),
    *("os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"),
    *("eval", "exec", "yaml.load", "yaml.unsafe_load", "torch.jit.load"),
}
MODULES = {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal"}


def test_invariant_6_no_shell_no_pickle():
    """No shell, no pickle, no evaluated text; a public torch file is read with weights_only=True alone."""
    for path, tree in sources(*MAY_IMPORT, "benchmarks"):
        for line, name in imports(tree):
            assert name.split(".")[0] not in MODULES, f"{path}:{line} imports {name}"
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            name, where = dotted(node.func), f"{path}:{node.lineno}"
            given = {k.arg: k.value.value for k in node.keywords if isinstance(k.value, ast.Constant)}
            assert name not in FORBIDDEN, f"{where} calls {name}"
            assert all(k.arg != "shell" for k in node.keywords), f"{where} names a shell"
            assert not given.get("allow_pickle"), f"{where} allows pickle"
            if name == "torch.load":
                assert given.get("weights_only") is True, f"{where} unpickles"


def test_no_failure_is_swallowed():
    """No bare except, and no `except Exception: pass`."""
    for path, tree in sources(*MAY_IMPORT, "benchmarks"):
        for node in ast.walk(tree):
            if isinstance(node, ast.ExceptHandler):
                assert node.type is not None, f"{path}:{node.lineno} is a bare except"
                broad = dotted(node.type) in ("Exception", "BaseException")
                assert not broad or not isinstance(node.body[0], ast.Pass), f"{path}:{node.lineno}"


def test_invariant_10_the_wheel_holds_mytalk_and_nothing_else(tmp_path):
    """Built from a copy of the checkout, so that nothing is left in it."""
    left_out = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "runs")
    checkout = shutil.copytree(ROOT, tmp_path / "checkout", ignore=left_out)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--skip-dependency-check"]
    done = subprocess.run(
        [*build, "--outdir", str(tmp_path / "dist"), str(checkout)], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    (wheel,) = (tmp_path / "dist").iterdir()
    with zipfile.ZipFile(wheel) as opened:
        names = opened.namelist()
    held = {Path(name).parts[0] for name in names}
    (metadata,) = held - {"mytalk"}
    assert metadata.startswith("mytalk-")
    assert metadata.endswith(".dist-info")
    modules = {name for name in names if name.startswith("mytalk/")}
    written = {path.relative_to(ROOT).as_posix() for path in (ROOT / "mytalk").rglob("*.py")}
    assert modules == {*written, "mytalk/py.typed"}


BLOCKED_IMPORTS = """
import sys

blocked = set(sys.argv[1].split(","))

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in blocked:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)

sys.meta_path.insert(0, Block())
for name in sys.argv[2].split(","):
    __import__(name)
"""


@pytest.mark.parametrize(
    ("blocked", "modules"),
    [
        pytest.param(
            "mediapipe,cv2,espeakng_loader,av,decord",
            "train.recipes.motion,train.loop,train.engine.deepspeed_engine,data_pipeline.sample.loader,data_pipeline.examples.motion,mytalk.networks.motion.files,mytalk.networks.motion.generation",
            id="training and the stream need no detector and no codec",
        ),
        pytest.param("mediapipe,cv2,espeakng_loader", "eval.motion", id="scoring landmarks needs no detector"),
        pytest.param(
            "torch,deepspeed,mediapipe,cv2", "mytalk.dub.commands.dub", id="dub refuses a path before it loads anything"
        ),
        pytest.param(
            "torch,deepspeed,mediapipe,cv2,espeakng_loader,av,decord,numpy",
            "mytalk.command,mytalk.config,mytalk.settings,mytalk.atomic,mytalk.progress,launch,"
            "data_pipeline.__main__,train.__main__,eval.__main__,mytalk.__main__",
            id="the commands' own help needs nothing heavy",
        ),
    ],
)
def test_imports_without_the_packages_that_are_not_needed(blocked, modules):
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED_IMPORTS, blocked, modules], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
