"""Everything that commands print goes through one terminal (see tests/unit/ops/test_terminal.py)."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_nothing_is_printed_past_the_one_terminal() -> None:
    """A console or an escape in another module would bypass it."""
    for path in sorted((ROOT / "services/ops").glob("*.py")):
        text = path.read_text(encoding="utf-8")
        if path.name == "terminal.py":
            continue
        past = r"rich\.markup|rich\.console|\bConsole\(|typer\.echo|click\.echo|sys\.stdout\.write|^\s*print\("
        found = re.findall(past, text, re.MULTILINE)
        assert found == [], f"{path.name}: print by OUT.say, OUT.print or print_plain"


def test_what_is_put_together_is_never_read_as_marks_of_ours() -> None:
    """`print` interprets marks such as [red], so it is for constants and tables; `say` is for all text with other
    content.
    """
    for path in sorted((ROOT / "services/ops").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name(id="OUT" | "ERR"), attr="print")):
                    marks_off = any(k.arg == "markup" and ast.unparse(k.value) == "False" for k in node.keywords)
                    harmless = all(
                        isinstance(arg, ast.Constant) or ast.unparse(arg).startswith(("table", "Text(", "Table("))
                        for arg in node.args
                    )
                    assert marks_off or harmless, f"{path.name}:{node.lineno}: use OUT.say"
