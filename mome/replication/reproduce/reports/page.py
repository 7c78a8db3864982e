"""The report of `mome reproduce` to look at: one HTML file with each figure, fresh beside committed."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

from jinja2 import Environment

from mome.files.atomic import write_atomically
from mome.replication.notebook.results import COMMITTED_PROFILES, Destination
from mome.replication.reproduce.reports.record import NotebookReport, RunReport

# everything is in the one file, so that it can be sent on; jinja escapes each value
PAGE = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
    """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>mome reproduce, profile {{ report.profile }}</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 0 auto; padding: 1rem; color: #222; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; }
th, td { padding: .2rem .8rem .2rem 0; text-align: left; border-bottom: 1px solid #ccc; }
td.number, th.number { text-align: right; }
.pair { display: flex; flex-wrap: wrap; gap: 1rem; }
figure { flex: 1 1 20rem; margin: 0; }
img { max-width: 100%; }
pre { overflow-x: auto; background: #f4f4f4; padding: .5rem; }
.failed { color: #a00; font-weight: bold; }
</style>
</head>
<body>
<h1>mome reproduce, profile {{ report.profile }}</h1>
<p>{{ sums }}. It ended at {{ report.ended }} with exit code {{ report.exit_code }}
after {{ "%.0f"|format(report.seconds) }} s, {{ report.jobs }} at a time,
at commit {{ report.environment.commit[:7] }}{{ " with changes" if report.environment.dirty }},
on {{ report.environment.hardware.cores }} cores of {{ report.environment.hardware.cpu }}.</p>
<div class="wide" tabindex="0" role="region" aria-label="Runs">
<table>
<tr><th>notebook</th><th>status</th><th class="number">seconds</th><th class="number">GiB</th>
<th class="number">inside</th><th class="number">different</th></tr>
{% for each in report.notebooks %}
<tr><td><a href="#{{ each.notebook }}">{{ each.notebook }}</a></td><td class="{{ each.status }}">{{ each.status }}</td>
<td class="number">{{ "%.1f"|format(each.seconds) }}</td>
<td class="number">{{ "" if each.memory_gib is none else "%.1f"|format(each.memory_gib) }}</td>
<td class="number">{{ each["values"]["inside"] or 0 }}</td><td class="number">{{ each.different|length }}</td></tr>
{% endfor %}
</table>
</div>
{% for each in report.notebooks %}
<h2 id="{{ each.notebook }}">{{ each.notebook }}</h2>
{% if each.error %}<pre class="failed">{{ each.error }}</pre>{% endif %}
{% if each.different %}
<ul>
{% for line in each.different %}<li>{{ line }}</li>
{% endfor %}
</ul>
{% endif %}
{% if each.executed %}<p><a href="{{ each.executed }}">The executed notebook</a></p>{% endif %}
<div class="pair">
{% for title, picture in pictures[each.notebook] %}
<figure><figcaption>{{ title }}</figcaption>
{% if picture %}<img alt="{{ title }}, figure of {{ each.notebook }}" src="data:image/png;base64,{{ picture }}">
{% else %}<p>No figure.</p>
{% endif %}
</figure>
{% endfor %}
</div>
{% endfor %}
</body>
</html>
"""
)


def write_page(report: RunReport, sums: str, path: Path) -> None:
    """Write the page to `path`, in the folder that the report's paths start from; `sums` is the line of sums."""
    pictures = {each.notebook: _pictures(report.profile, each, path.parent) for each in report.notebooks}
    write_atomically(path, PAGE.render(report=report, sums=sums, pictures=pictures) + "\n")


def _pictures(profile: str, notebook: NotebookReport, folder: Path) -> list[tuple[str, str]]:
    """The fresh figure and the committed one, each a title with a PNG file in base64; empty where there is none."""
    fresh = None if notebook.figure is None or notebook.status == "failed" else folder / notebook.figure
    committed = None
    if profile in COMMITTED_PROFILES:
        committed = Destination.committed(notebook.notebook, profile).figure("png")
    return [("Fresh", _encoded(fresh)), ("Committed", _encoded(committed))]


def _encoded(path: Path | None) -> str:
    return b64encode(path.read_bytes()).decode() if path is not None and path.is_file() else ""
