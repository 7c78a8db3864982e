"""A stand-in for the Hugging Face Hub on 127.0.0.1: serves files of data sets and models at one revision, nothing else.

It speaks the few routes that clients need (repository info, tree, file resolve), so tests mock
the Hub at the network and leave the client alone: point `HF_ENDPOINT` of a fresh process at `HubServer.url`.
`truthfulqa_on_hub` and `mmlu_on_hub` make the files to serve from those of a folder in the published formats.
"""

import csv
import hashlib
import io
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from urllib.parse import parse_qs, unquote, urlsplit

import pyarrow
import pyarrow.parquet

Files = dict[str, bytes]


class HubServer:
    """Context manager that serves `repositories`, a map from (repository, revision) to its files by path."""

    def __init__(self, repositories: dict[tuple[str, str], Files]) -> None:
        self.requests: list[str] = []
        handler = type("Handler", (_Handler,), {"repositories": repositories, "seen": self.requests})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "HubServer":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=60)


class _Handler(BaseHTTPRequestHandler):
    repositories: dict[tuple[str, str], Files]
    seen: list[str]
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def log_message(self, format: str, *arguments: object) -> None:
        pass

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path).strip("/")
        self.seen.append(f"{self.command} {path}")
        places = ((kind, *each) for kind in ("datasets", "models") for each in self.repositories.items())
        for kind, (repository, revision), files in places:
            info = f"api/{kind}/{repository}"
            resolve = f"{'datasets/' if kind == 'datasets' else ''}{repository}/resolve/{revision}/"
            if path in (info, f"{info}/revision/{revision}"):
                return self._send_json(_describe(repository, revision, files))
            if f"{path}/".startswith(f"{info}/tree/{revision}/"):
                return self._send_tree(path.removeprefix(f"{info}/tree/{revision}").strip("/"), files)
            if path.startswith(resolve) and path.removeprefix(resolve) in files:
                return self._send_file(files[path.removeprefix(resolve)], revision)
        self._send(404, b"{}", {"X-Error-Code": self._error_code(path), "X-Error-Message": "not found"})

    def _error_code(self, path: str) -> str:
        revisions = [f"{repository}/resolve/{revision}/" for repository, revision in self.repositories]
        return "EntryNotFound" if any(known in path for known in revisions) else "RepoNotFound"

    def _send_tree(self, folder: str, files: Files) -> None:
        inside = {name: data for name, data in files.items() if not folder or name.startswith(f"{folder}/")}
        if not inside:
            return self._send(404, b"{}", {"X-Error-Code": "EntryNotFound"})
        recursive = parse_qs(urlsplit(self.path).query).get("recursive", ["false"])[0].lower() == "true"
        prefix = f"{folder}/" if folder else ""
        folders = {
            prefix + name.removeprefix(prefix).split("/")[0] for name in inside if "/" in name.removeprefix(prefix)
        }
        entries = [
            _entry(name, data) for name, data in inside.items() if recursive or "/" not in name.removeprefix(prefix)
        ]
        entries += [{"type": "directory", "oid": _digest(name.encode()), "size": 0, "path": name} for name in folders]
        self._send_json(entries)

    def _send_file(self, data: bytes, revision: str) -> None:
        self._send(200, data, {"ETag": f'"{_digest(data)}"', "X-Repo-Commit": revision, "Accept-Ranges": "bytes"})

    def _send_json(self, content: object) -> None:
        self._send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _digest(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


def _entry(name: str, data: bytes) -> dict[str, object]:
    return {"type": "file", "oid": _digest(data), "size": len(data), "path": name}


def _describe(repository: str, revision: str, files: Files) -> dict[str, object]:
    return {
        "id": repository,
        "sha": revision,
        "private": False,
        "gated": False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": [],
        "siblings": [{"rfilename": name} for name in files],
    }


def parquet(rows: list[dict[str, object]]) -> bytes:
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


def card(configurations: dict[str, list[str]]) -> bytes:
    """The part of a data set card that says which files make up which configuration and split."""
    lines = ["---", "configs:"]
    for name, splits in configurations.items():
        lines += [f"- config_name: {name}", "  data_files:"]
        lines += [line for split in splits for line in (f"  - split: {split}", f"    path: {name}/{split}-*")]
    return "\n".join([*lines, "---", ""]).encode()


def truthfulqa_on_hub(folder: Path) -> Files:
    """What the data set's publishers made of the CSV and JSON files, built without the package's readers."""
    with open(folder / "TruthfulQA.csv", encoding="utf-8-sig", newline="") as file:
        generation = [
            {
                "type": row["Type"],
                "category": row["Category"],
                "question": row["Question"],
                "best_answer": row["Best Answer"],
                "correct_answers": [answer.strip() for answer in row["Correct Answers"].split(";")],
                "incorrect_answers": [answer.strip() for answer in row["Incorrect Answers"].split(";")],
                "source": row["Source"],
            }
            for row in csv.DictReader(file)
        ]
    tasks = json.loads((folder / "mc_task.json").read_text(encoding="utf-8"))
    for task in tasks:
        for name in ("mc1_targets", "mc2_targets"):
            task[name] = {"choices": list(task[name]), "labels": list(task[name].values())}
    return {
        "README.md": card({"generation": ["validation"], "multiple_choice": ["validation"]}),
        "generation/validation-00000-of-00001.parquet": parquet(generation),
        "multiple_choice/validation-00000-of-00001.parquet": parquet(tasks[::-1]),
    }


def mmlu_on_hub(folder: Path) -> Files:
    splits = {"test": "test", "validation": "val", "dev": "dev"}
    files = {"README.md": card({"all": list(splits)})}
    for split, published_split in splits.items():
        rows = []
        for path in sorted((folder / published_split).glob("*.csv")):
            with open(path, encoding="utf-8") as file:  # universal line ends, as the publishers' script reads them
                subject = path.name.removesuffix(f"_{published_split}.csv")
                rows += [
                    {"question": row[0], "subject": subject, "choices": row[1:5], "answer": "ABCD".index(row[5])}
                    for row in csv.reader(file)
                ]
        files[f"all/{split}-00000-of-00001.parquet"] = parquet(rows)
    return files
