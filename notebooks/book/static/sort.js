// A click on a column's heading sorts a long table by it; a second click turns the order round.
function sortBy(table, column, heading) {
  const body = table.tBodies[0];
  const up = heading.getAttribute("aria-sort") !== "ascending";
  const text = (row) => row.cells[column].textContent.trim();
  const rows = [...body.rows].sort((a, b) => text(a).localeCompare(text(b), "en", { numeric: true }));
  body.append(...(up ? rows : rows.reverse()));
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", up ? "ascending" : "descending");
}

document.addEventListener("DOMContentLoaded", () => {
  for (const table of document.querySelectorAll("article table.table")) {
    if (!table.tHead || !(table.tBodies[0]?.rows.length >= 8)) continue;
    [...table.tHead.rows[0].cells].forEach((heading, column) => {
      for (const row of table.tBodies[0].rows) row.cells[column].dataset.name = heading.textContent;
      const button = document.createElement("button");
      button.type = "button";
      button.style.cssText = "all: unset; cursor: pointer; text-decoration: underline dotted";
      button.title = "sort by this column";
      button.append(...heading.childNodes);
      button.addEventListener("click", () => sortBy(table, column, heading));
      heading.append(button);
    });
  }
});
