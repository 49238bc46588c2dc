"""Programs that plainly change something elsewhere, when a workflow file starts them: deployments, and what is pushed or published."""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

_STARTS = re.compile(
    r"""subprocess\.(run|call|check_call|check_output|Popen|getoutput|getstatusoutput) | os\.(system|popen)
    | asyncio\.create_subprocess_(exec|shell) | anyio\.(run_process|open_process) | durable_workflows\.authoring\.run_command""",
    re.VERBOSE,
)
_CLUSTER = r"apply|create|delete|replace|patch|scale|set|rollout (restart|undo)"
_DEPLOY = "deploy|destroy|publish"
_DOES: Mapping[str, str] = {
    "kubectl": _CLUSTER,
    "oc": _CLUSTER,
    "helm": "install|upgrade|uninstall|rollback|push",
    "terraform": "apply|destroy",
    "tofu": "apply|destroy",
    "pulumi": "up|destroy",
    "git": "push",
    "docker": "((image|compose) )?push",
    "podman": "push",
    "npm": "publish",
    "pnpm": "publish",
    "yarn": "(npm )?publish",
    "twine": "upload",
    "poetry": "publish",
    "uv": "publish",
    "cargo": "publish",
    "gem": "push",
    "gcloud": r"\w+ deploy",
    **dict.fromkeys(("cdk", "fly", "flyctl", "netlify", "serverless", "sls", "vercel", "wrangler"), _DEPLOY),
}  # fmt: skip
_WITH_VALUE = {"-C", "-c", "-n", "--context", "--kube-context", "--kubeconfig", "--namespace", "--prefix", "--project"}  # fmt: skip
_SHELL = re.compile(r"-\w*c")  # the option before a command for a shell
_END = re.compile(r"[;&|\n]+")  # of a command
_UNKNOWN = "…"


def is_one(call: ast.Call, meaning: str) -> bool:
    """Whether a call of that meaning starts such a program; a trial run (`--dry-run`) changes nothing."""
    return _STARTS.fullmatch(meaning) is not None and any(map(_changes, _commands(call)))


def _commands(call: ast.Call) -> Iterator[list[str]]:
    """The words of the commands that a call starts, as far as the text shows them."""
    match call.args:
        case [ast.List(elts=parts) | ast.Tuple(elts=parts), *_]:
            words = [_text(part) for part in parts]
        case parts:
            words = [_text(part) for part in parts]
    before = ["", *words]
    is_line = [len(words) == 1 or _SHELL.fullmatch(word) for word in before]
    plain = [_UNKNOWN if " " in word and not line else word for word, line in zip(words, is_line, strict=False)]  # fmt: skip
    for line in _END.split(" ".join(plain)):
        yield line.split()


def _text(node: ast.expr) -> str:
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(map(_text, parts))
        case _:
            return _UNKNOWN


def _changes(words: list[str]) -> bool:
    if any(word.startswith("--dry-run") for word in words):
        return False
    for place, word in enumerate(words):
        does = _DOES.get(PurePosixPath(word).name)
        if does and re.match(rf"({does})\b", " ".join(_without_options(words[place + 1 :]))):
            return True
    return False


def _without_options(words: list[str]) -> Iterator[str]:
    before = ""
    for word in words:
        if not word.startswith("-") and before not in _WITH_VALUE:
            yield word
        before = word
