// A click on a heading sorts its table, numbers as numbers; a second click turns the order round.
for (const table of document.querySelectorAll("table.sortable")) {
  table.tHead.addEventListener("click", (event) => {
    const heading = event.target.closest("th");
    if (!heading) return;
    const upward = heading.getAttribute("aria-sort") === "descending";
    for (const other of heading.parentNode.cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", upward ? "ascending" : "descending");
    const value = (row) => {
      const cell = row.cells[heading.cellIndex];
      const text = cell.dataset.value ?? cell.textContent.trim().replace("\u2212", "-").replace("%", "");
      return text !== "" && Number.isFinite(Number(text)) ? Number(text) : text;
    };
    const order = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));
    const rows = [...table.tBodies[0].rows];
    rows.sort((a, b) => (upward ? 1 : -1) * order(value(a), value(b)));
    table.tBodies[0].append(...rows);
  });
}
